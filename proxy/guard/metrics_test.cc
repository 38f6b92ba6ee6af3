#include "proxy/guard/metrics.h"

#include <gmock/gmock.h>

namespace sallyport::guard {
namespace {

using std::chrono::microseconds;
using testing::HasSubstr;
using testing::Not;

Record exchange(Outcome outcome, Reason reason, microseconds duration) {
  Record record;
  record.outcome = outcome;
  record.reason = reason;
  record.endpoint = "api";
  record.bytes_up = 1;
  record.bytes_down = 20;
  if (outcome == Outcome::allow) record.upstream = "192.0.2.1:443";
  record.duration = duration;
  return record;
}

Totals nothing() { return {}; }

TEST(Metrics, CountsByEndpointDecisionAndReason) {
  Metrics metrics("f", nothing);
  metrics.count(exchange(Outcome::allow, Reason::none, microseconds(1)));
  metrics.count(exchange(Outcome::allow, Reason::none, microseconds(1)));
  metrics.count(exchange(Outcome::deny, Reason::path_not_allowed, microseconds(1)));
  const std::string text = metrics.text();
  EXPECT_THAT(text, HasSubstr("# TYPE sallyport_exchanges_total counter\n"));
  EXPECT_THAT(
      text, HasSubstr("sallyport_exchanges_total{function=\"f\",decision=\"allow\",endpoint=\"api\",reason=\"\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("sallyport_exchanges_total{function=\"f\",decision=\"deny\",endpoint=\"api\","
                              "reason=\"path-not-allowed\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("sallyport_body_bytes_total{function=\"f\",direction=\"down\"} 60\n"));
  EXPECT_THAT(text, HasSubstr("sallyport_body_bytes_total{function=\"f\",direction=\"up\"} 3\n"));
}

TEST(Metrics, BucketsHoldWhatIsBelowThemToo) {
  Metrics metrics("f", nothing);
  for (const auto duration : {microseconds(1'000), microseconds(1'001), microseconds(31'000'000)}) {
    metrics.count(exchange(Outcome::allow, Reason::none, duration));
  }
  const std::string text = metrics.text();
  const auto bucket = [](const std::string& bound, int count) {
    return HasSubstr("sallyport_exchange_duration_seconds_bucket{function=\"f\",endpoint=\"api\",le=\"" + bound +
                     "\"} " + std::to_string(count) + "\n");
  };
  EXPECT_THAT(text, bucket("0.001", 1));
  EXPECT_THAT(text, bucket("0.0025", 2));
  EXPECT_THAT(text, bucket("30", 2));
  EXPECT_THAT(text, bucket("+Inf", 3));
  EXPECT_THAT(text, HasSubstr("sallyport_exchange_duration_seconds_sum{function=\"f\",endpoint=\"api\"} 31.002001\n"));
  EXPECT_THAT(text, HasSubstr("sallyport_exchange_duration_seconds_count{function=\"f\",endpoint=\"api\"} 3\n"));
}

TEST(Metrics, WhatNeverReachedAServerHasNoDuration) {
  Metrics metrics("f", nothing);
  metrics.count(exchange(Outcome::deny, Reason::path_not_allowed, microseconds(5)));
  EXPECT_THAT(metrics.text(), Not(HasSubstr("_seconds_sum{")));
}

TEST(Metrics, ConnectionsAndNamesCountApart) {
  Metrics metrics("f", nothing);
  Record connection = exchange(Outcome::deny, Reason::opaque_not_allowed, microseconds(1));
  connection.kind = RecordKind::connection;
  metrics.count(connection);
  Record name;
  name.kind = RecordKind::dns;
  metrics.count(name);
  const std::string text = metrics.text();
  EXPECT_THAT(text, HasSubstr("sallyport_connections_without_exchange_total{function=\"f\",decision=\"deny\","
                              "endpoint=\"api\",reason=\"opaque-not-allowed\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("sallyport_names_refused_total{function=\"f\"} 1\n"));
  EXPECT_THAT(text, Not(HasSubstr("sallyport_exchanges_total{")));
}

TEST(Metrics, ExecutionsThatAreIncompleteCountApart) {
  Metrics metrics("f", nothing);
  Record ended;
  ended.kind = RecordKind::execution;
  ended.end = "complete";
  metrics.count(ended);
  ended.reason = Reason::flow_incomplete;
  metrics.count(ended);
  const std::string text = metrics.text();
  EXPECT_THAT(text, HasSubstr("sallyport_executions_total{function=\"f\",end=\"complete\",reason=\"\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("{function=\"f\",end=\"complete\",reason=\"flow-incomplete\"} 1\n"));
}

TEST(Metrics, LabelsAreEscaped) {
  Metrics metrics("a\"b\\c\nd", nothing);
  EXPECT_THAT(metrics.text(), HasSubstr("sallyport_names_refused_total{function=\"a\\\"b\\\\c\\nd\"} 0\n"));
}

TEST(Metrics, ShowsWhatOthersCount) {
  Metrics metrics("f", [] { return Totals{.connections_accepted = 7, .connections_open = 3}; });
  metrics.policy_loaded(true);
  metrics.policy_loaded(false);
  metrics.policy_loaded(false);
  const std::string text = metrics.text();
  EXPECT_THAT(text, HasSubstr("sallyport_connections_total{function=\"f\"} 7\n"));
  EXPECT_THAT(text, HasSubstr("sallyport_connections_open{function=\"f\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("sallyport_policy_loads_total{function=\"f\",result=\"refused\"} 2\n"));
  EXPECT_THAT(text, Not(HasSubstr("sallyport_link"))) << "there is no controller";
}

TEST(Metrics, AMemberShowsItsLinkAndWhatCameOfAsking) {
  Metrics metrics("f", [] {
    Totals totals{.leases_granted = 2, .leased_requests = 40};
    totals.member.emplace();
    totals.member->link.registrations = 3;
    totals.member->link.events_lost = 5;
    totals.member->link.denials_lost = 1;
    totals.member->certificate_end = ca::TimePoint(std::chrono::seconds(1'800'000'000));
    return totals;
  });
  Record asked = exchange(Outcome::allow, Reason::none, microseconds(1));
  asked.asked = {AskEnd::allowed, microseconds(90)};
  metrics.count(asked);
  asked.kind = RecordKind::inbound;
  asked.asked = {AskEnd::unanswered_denied, microseconds(1'000'000)};
  metrics.count(asked);
  asked.asked.reset();
  metrics.count(asked);
  const std::string text = metrics.text();
  for (const char* line :
       {"link_connected{function=\"f\"} 0", "link_reconnects_total{function=\"f\"} 2",
        "events_dropped_total{function=\"f\",of=\"denial\"} 1", "events_dropped_total{function=\"f\",of=\"other\"} 4",
        "entry_asks_total{function=\"f\",outcome=\"allowed\"} 1",
        "entry_asks_total{function=\"f\",outcome=\"unanswered-denied\"} 1",
        "entry_ask_duration_seconds_bucket{function=\"f\",le=\"0.0001\"} 1",
        "entry_ask_duration_seconds_count{function=\"f\"} 2", "leases_total{function=\"f\",outcome=\"granted\"} 2",
        "leased_requests_total{function=\"f\"} 40", "certificate_end_timestamp_seconds{function=\"f\"} 1800000000"}) {
    EXPECT_THAT(text, HasSubstr("sallyport_" + std::string(line) + "\n"));
  }
}

}  // namespace
}  // namespace sallyport::guard

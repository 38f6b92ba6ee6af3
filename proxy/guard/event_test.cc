#include "proxy/guard/event.h"

#include <gtest/gtest.h>

#include "policy-engine/api/flow.pb.h"

namespace sallyport::guard {
namespace {

TEST(Event, AnExchangeHasAllThatItsRecordHas) {
  Record record;
  record.kind = RecordKind::exchange;
  record.outcome = Outcome::would_deny;
  record.reason = Reason::flow_not_allowed;
  record.mode = document::Mode::audit;
  record.id = 42;
  record.execution = ExecutionId{1};
  record.request = ExecutionId{2};
  auto operation = std::make_shared<flow::v1alpha1::Operation>();
  operation->set_method("POST");
  operation->set_host("bank.example");
  operation->set_path("/charges");
  record.operation = operation;
  record.endpoint = "bank";
  record.credential = "key";
  record.node = "charge";
  record.attribution = "only";
  record.to_function = "stock";
  record.status = 201;
  record.bytes_up = 3;
  record.bytes_down = 4;
  record.duration = std::chrono::microseconds(5);
  record.upstream = "192.0.2.1:443";
  record.text = "why";
  const link_api::Exchange exchange = event_of(record).exchange();
  EXPECT_EQ(exchange.kind(), link_api::EXCHANGE_KIND_OUTBOUND);
  EXPECT_EQ(exchange.decision(), link_api::DECISION_WOULD_DENY);
  EXPECT_EQ(exchange.reason(), "flow-not-allowed");
  EXPECT_EQ(exchange.id(), 42U);
  EXPECT_EQ(exchange.execution(), std::string(1, '\1') + std::string(15, '\0'));
  EXPECT_EQ(exchange.request_id(), std::string(1, '\2') + std::string(15, '\0'));
  EXPECT_EQ(exchange.operation().path(), "/charges");
  EXPECT_EQ(exchange.endpoint() + exchange.credential() + exchange.node(), "bankkeycharge");
  EXPECT_EQ(exchange.attribution() + exchange.to_function(), "onlystock");
  EXPECT_EQ(exchange.status(), 201U);
  EXPECT_EQ(exchange.bytes_up() + exchange.bytes_down() + exchange.duration_us(), 12U);
  EXPECT_EQ(exchange.upstream() + exchange.text(), "192.0.2.1:443why");
  EXPECT_EQ(exchange.mode(), policy::v1alpha1::MODE_AUDIT);
}

TEST(Event, AConnectionSaysWhereItLed) {
  Record record;
  record.kind = RecordKind::connection;
  record.scheme = request::Scheme::http;
  record.host = "db.example";
  record.port = 5432;
  EXPECT_EQ(event_of(record).exchange().operation().host(), "http://db.example:5432");
  EXPECT_EQ(event_of(record).exchange().kind(), link_api::EXCHANGE_KIND_CONNECTION);
}

// Protobuf refuses to read a text that is none, and the link would end with it.
TEST(Event, BytesThatAreNoTextDoNotBreakIt) {
  Record record;
  record.method = "G\xffT";
  record.host = "\xc3(";
  record.path = "/\xf0\x28\x8c\x28";
  record.action = "\x80";
  record.text = std::string("\0\xfe", 2);
  record.node = "\xff";
  link_api::Event read;
  ASSERT_TRUE(read.ParseFromString(event_of(record).SerializeAsString()));
  EXPECT_EQ(read.exchange().operation().method(), "G\\xffT");
  ASSERT_TRUE(read.ParseFromString(flow_began_of(record).SerializeAsString()));

  record.kind = RecordKind::execution;
  record.reason = Reason::flow_incomplete;
  auto trace = std::make_shared<flow::v1alpha1::Trace>();
  trace->add_flows()->mutable_operation()->set_action("\xff");
  trace->mutable_flows(0)->mutable_redirect()->set_query("\xff");
  trace->mutable_inbound()->set_path("\xff");
  record.trace = trace;
  ASSERT_TRUE(read.ParseFromString(event_of(record).SerializeAsString()));
  EXPECT_EQ(read.execution_ended().trace().flows_size(), 1);
}

TEST(Event, AnExecutionEndsAsItsRecordSays) {
  Record record;
  record.kind = RecordKind::execution;
  record.execution = ExecutionId{1};
  record.request = ExecutionId{2};
  record.end = "complete";
  record.flows = 3;
  const link_api::ExecutionEnded ended = event_of(record).execution_ended();
  EXPECT_EQ(ended.end(), flow::v1alpha1::EXECUTION_END_COMPLETE);
  EXPECT_EQ(ended.flows(), 3U);
  EXPECT_TRUE(ended.incomplete().empty());
  EXPECT_FALSE(ended.has_trace());
  record.end = "timeout";
  EXPECT_EQ(event_of(record).execution_ended().end(), flow::v1alpha1::EXECUTION_END_TIMEOUT);
}

}  // namespace
}  // namespace sallyport::guard

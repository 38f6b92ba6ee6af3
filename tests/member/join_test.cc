// The flags of a member of an application, and the connection that comes of them.
#include "proxy/guard/join.h"

#include <gmock/gmock.h>

#include <cstdlib>
#include <filesystem>

#include "base/read_file.h"
#include "controller/link/test_controller.h"

namespace sallyport::guard {
namespace {

using ::testing::HasSubstr;

JoinFlags whole() {
  JoinFlags flags;
  flags.controller = "wss://controller.test:7443";
  flags.application = "shop";
  flags.function = "checkout";
  flags.join_token_file = "/run/token";
  return flags;
}

std::string objection(const std::function<void(JoinFlags&)>& change, const std::vector<std::string>& others = {}) {
  JoinFlags flags = whole();
  change(flags);
  return objection_to(flags, others).value_or("");
}

TEST(Join, FlagsThatBelongTogetherAreAskedFor) {
  ::unsetenv(kJoinTokenVariable);
  EXPECT_EQ(objection([](JoinFlags&) {}), "");
  EXPECT_THAT(objection([](JoinFlags&) {}, {"--policy"}), HasSubstr("--policy and --controller exclude each other"));
  EXPECT_THAT(objection([](JoinFlags& f) { f.controller = "https://controller.test"; }), HasSubstr("--controller: "));
  EXPECT_THAT(objection([](JoinFlags& f) { f.application.clear(); }), HasSubstr("--application NAME and --function"));
  EXPECT_THAT(objection([](JoinFlags& f) { f.function.clear(); }), HasSubstr("--application NAME and --function"));
  EXPECT_THAT(objection([](JoinFlags& f) { f.application = "no name"; }), HasSubstr("'no name' is not valid"));
  EXPECT_THAT(objection([](JoinFlags& f) { f.function = "No"; }), HasSubstr("'No' is not valid"));
  EXPECT_THAT(objection([](JoinFlags& f) { f.instance = "a/b"; }), HasSubstr("'a/b' is not valid"));
  EXPECT_THAT(objection([](JoinFlags& f) { f.service_account_token_file = "/run/other"; }),
              HasSubstr("exclude each other"));
  EXPECT_THAT(objection([](JoinFlags& f) { f.join_token_file.clear(); }), HasSubstr("--controller needs"));
  EXPECT_THAT(objection([](JoinFlags& f) { f.controller.clear(); }), HasSubstr("says nothing without --controller"));
  ::setenv(kJoinTokenVariable, "token", 1);
  EXPECT_EQ(objection([](JoinFlags& f) { f.join_token_file.clear(); }), "");
  ::unsetenv(kJoinTokenVariable);
}

TEST(Join, WithoutAControllerNothingIsWanted) {
  EXPECT_FALSE(objection_to({}, {"--policy"}));
  for (std::string JoinFlags::* flag :
       {&JoinFlags::controller_ca, &JoinFlags::application, &JoinFlags::function, &JoinFlags::instance,
        &JoinFlags::join_token_file, &JoinFlags::service_account_token_file}) {
    JoinFlags flags;
    flags.*flag = "x";
    EXPECT_THAT(objection_to(flags, {}).value_or(""), HasSubstr("says nothing without --controller"));
  }
}

TEST(Join, ATokenThatCannotBeReadIsSaidAtOnce) {
  JoinFlags flags = whole();
  flags.join_token_file = "/nowhere/token";
  const auto joined = Joined::begin(flags, {});
  ASSERT_FALSE(joined);
  EXPECT_EQ(joined.error().kind, ErrorKind::invalid);
  EXPECT_THAT(joined.error().text, HasSubstr("the token for the controller: "));
}

// Over real TLS, with a token that is replaced while the guard runs.
TEST(Join, TheTokenIsReadAnewForEachConnection) {
  using namespace controller::testing;
  const std::string directory = ::testing::TempDir();
  const std::string ca = directory + "/join-ca.pem", token = directory + "/join-token";
  const TestIdentity identity;
  ASSERT_TRUE(write_file(ca, identity.root_pem, 0600));
  ASSERT_TRUE(write_file(token, "first\n", 0600));
  RecordingHandler handler;
  auto served = controller::testing::serve(handler, identity);
  JoinFlags flags = whole();
  flags.controller = "wss://127.0.0.1:" + std::to_string(served.port);
  flags.controller_ca = ca;
  flags.join_token_file = token;
  PolicyContext context;
  context.image_digest = "sha256:abc";
  auto joined = Joined::begin(flags, context);
  ASSERT_TRUE(joined) << joined.error().text;
  ASSERT_TRUE(eventually([&] { return handler.linked() == 1; }));
  ASSERT_TRUE(write_file(token, "second\n", 0600));
  const std::uint16_t port = served.port;
  served.server.reset();
  served = controller::testing::serve(handler, identity, port);
  ASSERT_TRUE(eventually([&] {
    const std::lock_guard lock(handler.mutex);
    return handler.registers.size() >= 2;
  }));
  const std::lock_guard lock(handler.mutex);
  const auto& first = handler.registers.front();
  const auto& last = handler.registers.back();
  EXPECT_EQ(first.join_token(), "first");
  EXPECT_EQ(last.join_token(), "second");
  EXPECT_EQ(first.application() + "/" + first.function(), "shop/checkout");
  EXPECT_EQ(first.instance().size(), 32U);
  EXPECT_EQ(first.instance(), last.instance());
  EXPECT_EQ(first.image_digest(), "sha256:abc");
}

TEST(Join, AServiceAccountsTokenIsOne) {
  using namespace controller::testing;
  const std::string directory = ::testing::TempDir();
  const std::string ca = directory + "/join-ca2.pem", token = directory + "/account-token";
  const TestIdentity identity;
  ASSERT_TRUE(write_file(ca, identity.root_pem, 0600));
  ASSERT_TRUE(write_file(token, "ey.J.x", 0600));
  RecordingHandler handler;
  const auto served = controller::testing::serve(handler, identity);
  JoinFlags flags = whole();
  flags.controller = "wss://127.0.0.1:" + std::to_string(served.port);
  flags.controller_ca = ca;
  flags.join_token_file.clear();
  flags.service_account_token_file = token;
  flags.instance = "pod-1";
  auto joined = Joined::begin(flags, {});
  ASSERT_TRUE(joined) << joined.error().text;
  ASSERT_TRUE(eventually([&] { return handler.linked() == 1; }));
  const std::lock_guard lock(handler.mutex);
  EXPECT_EQ(handler.registers[0].service_account_token(), "ey.J.x");
  EXPECT_EQ(handler.registers[0].join_token(), "");
  EXPECT_EQ(handler.registers[0].instance(), "pod-1");
}

}  // namespace
}  // namespace sallyport::guard

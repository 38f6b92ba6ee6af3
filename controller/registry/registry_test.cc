// Who is believed to be a guard, and which one.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "controller/registry/guard_table.h"
#include "controller/registry/join_token.h"

namespace sallyport::controller {
namespace {

using std::chrono::seconds;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;
using testing::StartsWith;

constexpr std::size_t kMany = 1'000;
Time at(int number) { return Time(seconds(number)); }

MadeToken token(const std::string& function = "resize", std::optional<Time> ends = std::nullopt) {
  auto made = make_join_token("shop", function, at(1), ends);
  EXPECT_TRUE(made);
  return std::move(*made);
}

TEST(JoinToken, IsGoodForItsFunctionAlone) {
  JoinTokens tokens;
  const MadeToken made = token();
  tokens.put(made.row);
  EXPECT_THAT(made.text, StartsWith("sallyport-join-v1." + made.row.id + "."));
  EXPECT_EQ(*tokens.check(made.text, "shop", "resize", at(2)), "join token " + made.row.id);
  EXPECT_FALSE(tokens.check(made.text, "shop", "thumb", at(2)));
  EXPECT_FALSE(tokens.check(made.text, "bank", "resize", at(2)));
}

TEST(JoinToken, OfAnApplicationIsGoodForItsFunctions) {
  JoinTokens tokens;
  const MadeToken made = token("");
  tokens.put(made.row);
  EXPECT_TRUE(tokens.check(made.text, "shop", "resize", at(2)));
  EXPECT_TRUE(tokens.check(made.text, "shop", "thumb", at(2)));
  EXPECT_FALSE(tokens.check(made.text, "bank", "thumb", at(2)));
}

TEST(JoinToken, IsWorthNothingChangedCutEndedOrRevoked) {
  JoinTokens tokens;
  MadeToken made = token("resize", at(10));
  tokens.put(made.row);
  EXPECT_TRUE(tokens.check(made.text, "shop", "resize", at(9)));
  const auto ended = tokens.check(made.text, "shop", "resize", at(10));
  ASSERT_FALSE(ended);
  EXPECT_THAT(ended.error().text, Not(HasSubstr(made.row.id))) << "who guesses is told nothing";
  for (std::size_t i = 0; i < made.text.size(); ++i) {
    std::string changed = made.text;
    changed[i] = changed[i] == 'a' ? 'b' : 'a';
    EXPECT_FALSE(tokens.check(changed, "shop", "resize", at(2))) << i;
    EXPECT_FALSE(tokens.check(made.text.substr(0, i), "shop", "resize", at(2))) << i;
  }
  EXPECT_FALSE(tokens.check(made.text + "a", "shop", "resize", at(2)));
  made.row.revoked = true;
  tokens.put(made.row);
  EXPECT_FALSE(tokens.check(made.text, "shop", "resize", at(2)));
}

// What nobody made has the id of no token; it must not pass as one whose hash was never filled in.
TEST(JoinToken, ThatNobodyMadeIsNone) {
  const JoinTokens tokens;
  EXPECT_FALSE(tokens.check("", "", "", at(2)));
  EXPECT_FALSE(tokens.check(token().text, "shop", "resize", at(2)));
}

TEST(JoinToken, IsAnotherEachTime) { EXPECT_NE(token().text, token().text); }

class GuardTableTest : public testing::Test {
 protected:
  static GuardTable::Arrival arrival(const std::string& instance, std::optional<GuardId> shown = std::nullopt) {
    return {"shop", "resize", instance, "join token 1", shown};
  }
  GuardTable::Admitted admit(const GuardTable::Arrival& from, std::uint64_t link, int second = 1,
                             std::size_t most = kMany) {
    auto admitted = table_.admit(from, LinkId{link}, at(second), most);
    EXPECT_TRUE(admitted) << admitted.error().text;
    return *admitted;
  }
  GuardTable table_;
};

TEST_F(GuardTableTest, KeepsTheIdOfAGuardThatComesBack) {
  const auto first = admit(arrival("pod-1"), 1);
  EXPECT_TRUE(first.fresh);
  const GuardId id = first.guard->row.id;
  table_.disconnect(LinkId{1});
  const auto again = admit(arrival("pod-1", id), 2);
  EXPECT_FALSE(again.fresh);
  EXPECT_EQ(again.guard->row.id, id);
  EXPECT_EQ(again.replaced, LinkId{0});
  EXPECT_EQ(table_.find(LinkId{2}), again.guard);
  EXPECT_EQ(table_.find(LinkId{1}), nullptr);
}

TEST_F(GuardTableTest, ClosesTheOlderOfTwoConnectionsOfOneGuard) {
  const GuardId id = admit(arrival("pod-1"), 1).guard->row.id;
  EXPECT_EQ(admit(arrival("pod-1", id), 2).replaced, LinkId{1});
  table_.disconnect(LinkId{1});
  EXPECT_EQ(table_.find(id)->link, LinkId{2}) << "the end of the old connection is nothing to the new one";
}

// Whoever has seen an id, in a tag or a record, gets nothing for it.
TEST_F(GuardTableTest, GivesAStolenIdToNobody) {
  const GuardId id = admit(arrival("pod-1"), 1).guard->row.id;
  GuardTable::Arrival thief = arrival("pod-1", id);
  thief.subject = "join token 2";
  EXPECT_NE(admit(thief, 2).guard->row.id, id);
  EXPECT_NE(admit(arrival("pod-2", id), 3).guard->row.id, id);
  thief = arrival("pod-1", id);
  thief.function = "thumb";
  EXPECT_NE(admit(thief, 4).guard->row.id, id);
  EXPECT_EQ(table_.find(id)->link, LinkId{1});
}

TEST_F(GuardTableTest, RefusesAnInstanceTooMany) {
  const GuardId id = admit(arrival("pod-1"), 1, 1, 2).guard->row.id;
  admit(arrival("pod-2"), 2, 1, 2);
  const auto third = table_.admit(arrival("pod-3"), LinkId{3}, at(1), 2);
  ASSERT_FALSE(third);
  EXPECT_EQ(third.error().kind, ErrorKind::limit);
  EXPECT_THAT(third.error().text, HasSubstr("2 instances of resize are running, and 2 may"));
  admit(arrival("pod-1", id), 4, 1, 2);  // in its own place
  table_.disconnect(LinkId{2});
  EXPECT_FALSE(table_.admit(arrival("pod-3"), LinkId{5}, at(1), 2)) << "one that may come back keeps its place";
}

TEST_F(GuardTableTest, LosesWhoIsSilentButKeepsItsId) {
  const GuardId id = admit(arrival("pod-1"), 1, 1, 2).guard->row.id;
  admit(arrival("pod-2"), 2, 5, 2);
  const std::vector<Guard> lost = table_.lose(at(4));
  ASSERT_THAT(lost, SizeIs(1));
  EXPECT_EQ(lost[0].row.id, id);
  EXPECT_EQ(table_.find(LinkId{1}), nullptr);
  EXPECT_EQ(table_.running("shop", "resize"), 1U);
  ASSERT_NE(table_.find(LinkId{2}), nullptr);
  EXPECT_EQ(table_.find(LinkId{2})->row.instance, "pod-2");
  EXPECT_THAT(table_.lose(at(4)), IsEmpty()) << "it is lost once";
  EXPECT_FALSE(admit(arrival("pod-1", id), 3, 6, 2).fresh);
  EXPECT_EQ(table_.running("shop", "resize"), 2U);
}

TEST_F(GuardTableTest, ThePlaceOfALostInstanceIsFree) {
  const GuardId id = admit(arrival("pod-1"), 1, 1, 1).guard->row.id;
  table_.lose(at(4));
  admit(arrival("pod-2"), 2, 5, 1);
  EXPECT_FALSE(table_.admit(arrival("pod-1", id), LinkId{3}, at(6), 1)) << "and taken when it comes back";
}

TEST_F(GuardTableTest, WhoSaysGoodbyeIsNotLost) {
  admit(arrival("pod-1"), 1, 1);
  table_.disconnect(LinkId{1}, true);
  EXPECT_EQ(table_.running("shop", "resize"), 0U);
  EXPECT_THAT(table_.lose(at(100)), IsEmpty());
}

TEST_F(GuardTableTest, ForgetsWhoHasBeenGoneForLong) {
  const GuardId id = admit(arrival("pod-1"), 1, 1).guard->row.id;
  admit(arrival("pod-2"), 2, 1);
  table_.disconnect(LinkId{1}, true);
  EXPECT_THAT(table_.forget(at(50)), ElementsAre(id)) << "but not one that runs";
  EXPECT_EQ(table_.find(id), nullptr);
  EXPECT_TRUE(admit(arrival("pod-1", id), 3, 60).fresh);
}

// Whoever has a token can register as one instance after the other.
TEST_F(GuardTableTest, RemembersNoMoreOfAFunctionThanItMay) {
  const GuardId first = admit(arrival("pod-1"), 1, 1).guard->row.id;
  const GuardId second = admit(arrival("pod-2"), 2, 2).guard->row.id;
  admit(arrival("pod-3"), 3, 3);
  table_.disconnect(LinkId{2}, true);
  table_.disconnect(LinkId{1}, true);
  EXPECT_THAT(table_.forget(at(0), 3), IsEmpty());
  EXPECT_THAT(table_.forget(at(0), 2), ElementsAre(first)) << "the one that has been gone for longest";
  EXPECT_THAT(table_.forget(at(0), 0), ElementsAre(second)) << "but not one that runs";
}

TEST_F(GuardTableTest, KnowsAfterARestartWhoMayComeBack) {
  GuardRow row{GuardId{7}, "shop", "resize", "pod-1", "join token 1", at(1), 41};
  table_.load({row}, at(100));
  EXPECT_EQ(table_.running("shop", "resize"), 0U) << "it may be gone";
  const auto back = admit(arrival("pod-1", row.id), 9, 101);
  EXPECT_FALSE(back.fresh);
  EXPECT_EQ(back.guard->row.events_taken, 41U);
  EXPECT_EQ(table_.running("shop", "resize"), 1U);
}

}  // namespace
}  // namespace sallyport::controller

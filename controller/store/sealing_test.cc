#include "controller/store/sealing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>

#include "base/read_file.h"

namespace sallyport::controller {
namespace {

using testing::HasSubstr;
using testing::Not;

class Sealing : public testing::Test {
 protected:
  Sealing() { std::filesystem::remove_all(folder_), std::filesystem::create_directories(folder_); }
  ~Sealing() override { std::filesystem::remove_all(folder_); }
  SealingKey key() {
    auto made = SealingKey::of_file(path_);
    EXPECT_TRUE(made) << made.error().text;
    return std::move(*made);
  }
  const std::string folder_ = testing::TempDir() + "/sallyport_sealing." + std::to_string(getpid());
  const std::string path_ = folder_ + "/secrets.key";
};

TEST_F(Sealing, GivesBackWhatWasSealedAlsoAfterARestart) {
  const auto sealed = key().seal("sk_live_1", "secret stripe of shop");
  ASSERT_TRUE(sealed);
  EXPECT_THAT(*sealed, Not(HasSubstr("sk_live")));
  const auto opened = key().open(*sealed, "secret stripe of shop");
  ASSERT_TRUE(opened) << opened.error().text;
  EXPECT_EQ(*opened, "sk_live_1");
}

TEST_F(Sealing, SealsTheSameDifferentlyEachTime) {
  const SealingKey same = key();
  EXPECT_NE(*same.seal("x", "a"), *same.seal("x", "a"));
}

TEST_F(Sealing, RefusesWhatWasMovedChangedCutOrSealedWithAnotherKey) {
  const SealingKey right = key();
  std::string sealed = *right.seal("value", "secret a of shop");
  EXPECT_FALSE(right.open(sealed, "secret b of shop"));
  for (std::size_t i = 0; i < sealed.size(); ++i) {
    std::string changed = sealed;
    changed[i] = static_cast<char>(changed[i] ^ 1);
    EXPECT_FALSE(right.open(changed, "secret a of shop")) << i;
    EXPECT_FALSE(right.open(sealed.substr(0, i), "secret a of shop")) << i;
  }
  std::filesystem::remove(path_);
  const auto other = key().open(sealed, "secret a of shop");
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().kind, ErrorKind::unverified);
  EXPECT_THAT(other.error().text, HasSubstr("secret a of shop cannot be read"));
}

TEST_F(Sealing, TakesNoKeyThatOthersMayReadOrThatIsNone) {
  static_cast<void>(key());
  struct stat status{};
  ASSERT_EQ(stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0600U);
  chmod(path_.c_str(), 0644);
  EXPECT_THAT(SealingKey::of_file(path_).error().text, HasSubstr("chmod 600"));
  ASSERT_TRUE(write_file(path_, "short", 0600));
  EXPECT_THAT(SealingKey::of_file(path_).error().text, HasSubstr("32 bytes"));
  std::filesystem::remove(path_);
  std::filesystem::create_symlink("/etc/hostname", path_);
  EXPECT_THAT(SealingKey::of_file(path_).error().text, HasSubstr("is no file"));
}

}  // namespace
}  // namespace sallyport::controller

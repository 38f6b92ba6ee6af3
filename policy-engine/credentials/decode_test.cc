#include "policy-engine/credentials/decode.h"

#include <gtest/gtest.h>

namespace sallyport::credentials {
namespace {

TEST(PercentDecoded, DecodesWhatIsAnEscapeAndLeavesTheRest) {
  EXPECT_EQ(percent_decoded("a%41%2d%2Db"), "aA--b");
  EXPECT_EQ(percent_decoded("100%"), "100%");
  EXPECT_EQ(percent_decoded("%4"), "%4");
  EXPECT_EQ(percent_decoded("%zz%4g"), "%zz%4g");
  EXPECT_EQ(percent_decoded("%2541"), "%41");
  EXPECT_EQ(percent_decoded("%00"), std::string(1, '\0'));
  EXPECT_EQ(percent_decoded(""), "");
}

TEST(BasicCredentials, AreReadInEveryUsualSpelling) {
  EXPECT_EQ(basic_credentials("Basic dXNlcjpwYXNz"), "user:pass");
  EXPECT_EQ(basic_credentials("basic   dXNlcjpwYXNzMQ=="), "user:pass1");
  EXPECT_EQ(basic_credentials("BASIC dXNlcjpwYXNzMQ"), "user:pass1");
  EXPECT_EQ(basic_credentials("Basic Pz8_Pj4-"), "\?\?\?>>>");
  EXPECT_EQ(basic_credentials("Basic Pz8/Pj4+"), "\?\?\?>>>");
  EXPECT_EQ(basic_credentials("Basic \tYQ"), "a");
  EXPECT_EQ(basic_credentials("Basic "), "");
  EXPECT_EQ(basic_credentials("Basic dXNl!cjpw"), "use");
}

TEST(BasicCredentials, OtherSchemesHaveNone) {
  for (const char* value : {"", "Basic", "Bearer dXNlcg==", "BasicdXNlcg==", "Digest x"}) {
    EXPECT_FALSE(basic_credentials(value)) << value;
  }
}

}  // namespace
}  // namespace sallyport::credentials

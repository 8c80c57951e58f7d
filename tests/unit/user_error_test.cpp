// A user's mistake is one line whatever came from a file or a name into its message.
#include <gtest/gtest.h>

#include "base/check.hpp"

namespace vixen {
namespace {

TEST(UserErrorMessage, IsOneLine) {
  EXPECT_STREQ(UserError("a.ini:3: expected \"Ünïcode ‹x›\"").what(), "a.ini:3: expected \"Ünïcode ‹x›\"");
  EXPECT_STREQ(UserError("tensor a\nb\r\tc\x1b[31m\x7f is missing").what(),
               "tensor a\\x0ab\\x0d\\x09c\\x1b[31m\\x7f is missing");
  EXPECT_STREQ(UserError("f\xff.h5: no such file").what(), "f\\xff.h5: no such file");
  const std::string once = UserError("a\nb").what();
  EXPECT_EQ(UserError(once).what(), once) << "what is shown is shown the same again";
}

TEST(UserErrorMessage, KeepsBothEndsOfALongOne) {
  std::string quoted;
  for (int i = 0; i < 100000; ++i) quoted += "é";
  const std::string message = UserError("x.json: a is " + quoted + ", expected a number").what();
  EXPECT_LT(message.size(), 2010u);
  EXPECT_TRUE(message.starts_with("x.json: a is éé")) << message;
  EXPECT_TRUE(message.ends_with("éé, expected a number")) << message;
  EXPECT_NE(message.find("é...é"), message.npos) << "whole characters on both sides of the cut";
}

TEST(UserErrorMessage, IsNotReadAsAFormat) {
  EXPECT_STREQ(UserError("{} %s %n {0:9}").what(), "{} %s %n {0:9}");
}

}  // namespace
}  // namespace vixen

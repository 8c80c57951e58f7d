// What messages show of texts from outside.
#include "base/text.hpp"

#include <gtest/gtest.h>

namespace vixen {
namespace {

TEST(Shown, VisibleTextStaysAsItIs) {
  for (const char* text : {"", "plain text", "größe 漢字 عربي 😀", "a\\b", "e\u0301"}) EXPECT_EQ(shown(text), text);
}

TEST(Shown, WhatATerminalHidesIsEscaped) {
  EXPECT_EQ(shown("\xef\xbb\xbftitle"), "\\ufefftitle");                  // byte order mark
  EXPECT_EQ(shown("a\u200bb\u200db\u2060"), "a\\u200bb\\u200db\\u2060");  // zero width
  EXPECT_EQ(shown("\u202egpj.exe"), "\\u202egpj.exe");                    // turned from right to left
  EXPECT_EQ(shown("a\u00a0b\u00adc\u3000"), "a\\u00a0b\\u00adc\\u3000");  // blanks and hyphens that look otherwise
  EXPECT_EQ(shown("a\nb\tc\x1b[31m\x7f"), "a\\x0ab\\x09c\\x1b[31m\\x7f");
  EXPECT_EQ(shown("\u2028\u2029\u0085"), "\\u2028\\u2029\\u0085");
  EXPECT_EQ(shown("\U000e0041\U0010fffd"), "\\U000e0041\\U0010fffd");
  EXPECT_EQ(shown(std::string_view("a\0b", 3)), "a\\x00b");
}

TEST(Shown, BytesThatAreNoUtf8AreEscapedOneByOne) {
  EXPECT_EQ(shown("caf\xe9.png"), "caf\\xe9.png");
  EXPECT_EQ(shown("\xc0\xaf"), "\\xc0\\xaf");                    // an overlong form
  EXPECT_EQ(shown("\xed\xa0\x80!"), "\\xed\\xa0\\x80!");         // a surrogate
  EXPECT_EQ(shown("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80");  // beyond U+10FFFF
  EXPECT_EQ(shown("\xe6\xbc"), "\\xe6\\xbc");                    // cut off
}

TEST(Shown, LongTextsAreCutBetweenCharacters) {
  EXPECT_EQ(shown("abcdef", 6), "abcdef");
  EXPECT_EQ(shown("abcdefg", 6), "abcdef...");
  EXPECT_EQ(shown("äöü", 5), "äö...");
  EXPECT_EQ(shown("\u200bxyz", 3), "\\u200b...");
}

TEST(FirstCharacter, CodeAndLength) {
  EXPECT_EQ(first_character("é").code, U'é');
  EXPECT_EQ(first_character("é").bytes, 2u);
  EXPECT_EQ(first_character("😀").code, U'😀');
  EXPECT_EQ(first_character("😀").bytes, 4u);
  EXPECT_EQ(first_character("").bytes, 0u);
  EXPECT_EQ(first_character("\xff").bytes, 0u);
}

}  // namespace
}  // namespace vixen

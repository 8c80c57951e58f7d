// JSON files of others: byte order marks, other files in their place, nesting that would exhaust the stack.
#include "base/json_file.hpp"

#include <gtest/gtest.h>

#include <fstream>

#include "fixtures/fault.hpp"
#include "fixtures/temp_dir.hpp"

namespace vixen {
namespace {

using test::fault_of;

class JsonFileTest : public ::testing::Test {
 protected:
  std::string write(const std::string& text) const {
    std::ofstream(path_, std::ios::binary) << text;
    return path_.string();
  }
  std::string fault(const std::string& text) const {
    return fault_of([&] { read_json_object(write(text), "a model"); });
  }

  const test::TempDir dir_;
  const std::filesystem::path path_ = dir_.path() / "config.json";
};

TEST_F(JsonFileTest, AByteOrderMarkIsSkipped) {
  EXPECT_EQ(read_json_object(write("\xef\xbb\xbf{\"a\": 1}"), "a model")["a"], 1);
  EXPECT_EQ(read_json(write("\xef\xbb\xbf\r\n[1, 2]\r\n"), "a list").size(), 2U);
}

TEST_F(JsonFileTest, WhatLiesThereInsteadIsNamed) {
  EXPECT_EQ(fault(""), path_.string() + ": found an empty file, expected a model");
  EXPECT_FAULT(fault("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
               ": found a Git LFS pointer");
  EXPECT_FAULT(fault("<!doctype html>\n<html>"), ": found an HTML page");
  EXPECT_FAULT(fault(std::string("\xff\xfe{\0}\0", 6)), ": found UTF-16 text, expected a model in UTF-8");
  EXPECT_FAULT(fault(std::string("{}\0{}", 5)), ": found a NUL at byte 2, expected a model");
  EXPECT_FAULT(fault("[1]"), ": found a JSON array, expected a model");
  EXPECT_FAULT(fault("{\"a\": NaN}"), "line 1");
  EXPECT_FAULT(fault("{\"a\": 1e999}"), "number overflow");
  const std::string message = fault("{\n\"a\u200b\": \"b\nc\"}");
  EXPECT_FAULT(message, "line 3");
  EXPECT_FAULT(message, "expected a model");
  EXPECT_LT(fault("{\"" + std::string(100000, 'x') + "\": \x01").size(), 400U);
}

TEST_F(JsonFileTest, DeepNestingIsRefusedBeforeItIsFollowed) {
  for (const auto& [open, close] : {std::pair{"[", "]"}, std::pair{"{\"a\":", "}"}}) {
    std::string deep;
    for (int i = 0; i < 500000; ++i) deep += open;
    EXPECT_FAULT(fault(deep), ": found JSON nested deeper than 100 levels, expected a model");
    deep += "1";
    for (int i = 0; i < 500000; ++i) deep += close;
    EXPECT_FAULT(fault(deep), "nested deeper");
  }
  const std::string in_string = "{\"a\": \"" + std::string(1000, '[') + "\\\"" + std::string(1000, '{') + "\"}";
  EXPECT_EQ(fault(in_string), "(no fault)") << "brackets in strings are text";
  EXPECT_EQ(fault("{\"a\": " + std::string(99, '[') + std::string(99, ']') + "}"), "(no fault)");
}

TEST_F(JsonFileTest, ValuesInMessages) {
  EXPECT_EQ(shown_json({{"a", "x\u200by"}}), "{\"a\":\"x\\u200by\"}");
  EXPECT_EQ(shown_json("\xff"), "\"\ufffd\"");
  EXPECT_LT(shown_json(std::string(100000, 'x')).size(), 300U);
}

}  // namespace
}  // namespace vixen

// Files that lie where another kind was expected are named.
#include "base/file_kind.hpp"

#include <gtest/gtest.h>

#include <fstream>

#include "fixtures/temp_dir.hpp"

namespace vixen {
namespace {

using namespace std::string_literals;

TEST(FileKind, IsToldByTheFirstBytes) {
  const test::TempDir folder;
  const std::pair<std::string, std::string> samples[] = {
      {"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n",
       "a Git LFS pointer, not the file itself (run `git lfs pull` where it came from)"},
      {"\n  <!DOCTYPE html><html>", "an HTML page (a download that was refused?)"},
      {"<HTML><body>", "an HTML page (a download that was refused?)"},
      {"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>",
       "an XML document (a download that was refused?)"},
      {"PK\3\4rest", "a zip archive (torch.save and .npz files are such)"},
      {"\x80\2}q", "a Python pickle"},
      {"\x89HDF\r\n\x1a\nrest", "an HDF5 file"},
      {"\x93NUMPY\1", "a NumPy array (.npy)"},
      {"GGUF\3", "a GGUF file"},
      {"\x1f\x8b\x08", "gzip data: unpack it first"},
      {"\x02\0\0\0\0\0\0\0{}"s, "a safetensors file"},
      {std::string(5000, '\0'), "zero bytes where its beginning should be (a copy or download that was cut off?)"},
      {"Entry not found", "text that begins 'Entry not found'"},
      {"{\"model_type\": \"bert\"}\n", "text that begins '{\"model_type\": \"bert\"}'"},
      {"\xef\xbb\xbfhello\u200b\nmore", "text that begins 'hello\\u200b'"},
      {" \n", "blank text"},
      {"", "an empty file"},
      {"\x01\x02\xff", ""},
  };
  for (const auto& [bytes, kind] : samples) {
    const auto path = folder.path() / "file";
    std::ofstream(path, std::ios::binary) << bytes;
    EXPECT_EQ(what_it_is(path), kind);
    EXPECT_EQ(found_instead(path), kind.empty() ? "" : ", found " + kind);
  }
}

TEST(FileKind, OtherThingsThanFiles) {
  const test::TempDir folder;
  EXPECT_EQ(what_it_is(folder.path()), "a folder");
  EXPECT_EQ(what_it_is("/dev/null"), "not a regular file");
  EXPECT_EQ(what_it_is(folder.path() / "gone"), "");
}

}  // namespace
}  // namespace vixen

// Folders written as a whole, and what is never removed with them.
#include "base/made_folder.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "base/file.hpp"
#include "base/same_file.hpp"
#include "base/version.hpp"
#include "fixtures/fault.hpp"
#include "fixtures/temp_dir.hpp"

namespace vixen {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using test::expect_mentions;

class MadeFolderTest : public ::testing::Test {
 protected:
  void write(const fs::path& path, const std::string& text) const { std::ofstream(path) << text; }
  fs::path make(const std::string& text) const {
    FolderWriter writer(target_, created_by("test"), "test folder");
    write(writer.folder() / "a.txt", text);
    fs::create_directories(writer.folder() / "inner");
    write(writer.folder() / "inner/b.txt", "b");
    return writer.publish({{"more", 7}});
  }
  size_t beside() const { return static_cast<size_t>(std::distance(fs::directory_iterator(dir_.path()), {})); }

  const test::TempDir dir_;
  const fs::path target_ = dir_.path() / "out";
};

TEST_F(MadeFolderTest, TheMarkerListsWhatWasWritten) {
  EXPECT_TRUE(make("one").empty());
  const json marker = json::parse(read_text(target_ / kFolderMarker));
  EXPECT_EQ(marker["created_by"], std::string("vixen test ") + version());
  EXPECT_EQ(marker["kind"], "test folder");
  EXPECT_EQ(marker["more"], 7);
  EXPECT_EQ(marker["files"], json({"a.txt", "inner/b.txt"}));
  EXPECT_EQ(folder_made_by(target_), created_by("test"));
  EXPECT_EQ(beside(), 1u);
}

TEST_F(MadeFolderTest, AFolderOfOursIsReplacedWithoutATrace) {
  make("one");
  EXPECT_EQ(why_not_replaceable(target_), "");
  EXPECT_TRUE(make("two").empty());
  EXPECT_EQ(read_text(target_ / "a.txt"), "two");
  EXPECT_EQ(beside(), 1u);
}

TEST_F(MadeFolderTest, WhatOthersPutThereStandsInTheWayAndIsKept) {
  make("one");
  write(target_ / "inner/notes.txt", "mine");
  expect_mentions(why_not_replaceable(target_), {"inner/notes.txt", "did not write"});
  const auto kept = make("two");
  EXPECT_EQ(kept, dir_.path() / "out.old-1");
  EXPECT_EQ(read_text(kept / "inner/notes.txt"), "mine");
  EXPECT_EQ(read_text(kept / "a.txt"), "one");
  EXPECT_EQ(read_text(target_ / "a.txt"), "two");
}

TEST_F(MadeFolderTest, WhatPythonCompiledBesideAnExportIsNobodysFile) {
  make("one");
  make_folder(target_ / "__pycache__");
  write_text_atomically(target_ / "__pycache__" / "loader.cpython-311.pyc", "compiled");
  EXPECT_EQ(why_not_replaceable(target_), "");
}

TEST_F(MadeFolderTest, AForeignFolderIsNotReplaceableAnEmptyOneIs) {
  EXPECT_EQ(why_not_replaceable(target_), "");
  fs::create_directories(target_);
  EXPECT_EQ(why_not_replaceable(target_), "");
  write(target_ / "thesis.tex", "years");
  expect_mentions(why_not_replaceable(target_), {"not made by vixen", kFolderMarker});
  write(target_ / kFolderMarker, "{\"created_by\": 3}");  // damaged, or somebody else's
  expect_mentions(why_not_replaceable(target_), {"not made by vixen"});
  write(dir_.path() / "file", "x");
  expect_mentions(why_not_replaceable(dir_.path() / "file"), {"is a file"});
}

TEST_F(MadeFolderTest, WithoutPublishNothingIsLeft) {
  {
    FolderWriter writer(target_, created_by("test"), "test folder");
    write(writer.folder() / "a.txt", "half");
  }
  EXPECT_EQ(beside(), 0u);
}

TEST(SameFile, LinksSpellingsAndNamesThatAreNotThereYet) {
  const test::TempDir dir;
  const fs::path file = dir.path() / "file";
  std::ofstream(file) << "x";
  fs::create_hard_link(file, dir.path() / "hard");
  fs::create_symlink("file", dir.path() / "soft");
  fs::create_symlink("not-there", dir.path() / "dangling");
  fs::create_directories(dir.path() / "folder");
  for (const char* name : {"hard", "soft", "folder/../file", "./file"})
    EXPECT_TRUE(same_file(dir.path() / name, file)) << name;
  EXPECT_FALSE(same_file(dir.path() / "other", file));
  EXPECT_TRUE(same_file(dir.path() / "folder/../new", dir.path() / "new"));
  EXPECT_EQ(write_target(dir.path() / "dangling"), dir.path() / "not-there");
  EXPECT_EQ(write_target(file), file);
  EXPECT_TRUE(lies_within(dir.path() / "folder/a/b", dir.path() / "folder"));
  EXPECT_TRUE(lies_within(dir.path() / "folder/", dir.path() / "folder"));
  EXPECT_FALSE(lies_within(dir.path() / "folder-2", dir.path() / "folder"));
}

TEST(SameFile, AWriteThroughALinkReplacesItsTargetAndLeavesTheLink) {
  const test::TempDir dir;
  std::ofstream(dir.path() / "target") << "old";
  fs::create_symlink("target", dir.path() / "link");
  write_text_atomically(dir.path() / "link", "new");
  EXPECT_TRUE(fs::is_symlink(dir.path() / "link"));
  EXPECT_EQ(read_text(dir.path() / "target"), "new");
}

TEST(CheckRoom, MoreThanTheDiskHasIsSaidWithBothNumbers) {
  const test::TempDir dir;
  check_room(dir.path() / "no/folder/yet/file", 1, "a byte");
  expect_mentions(test::error_of([&] { check_room(dir.path() / "file", int64_t{1} << 60, "embeddings"); }),
                  {"file: embeddings need about", "free", "make room"});
}

}  // namespace
}  // namespace vixen

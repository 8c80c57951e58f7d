// Mapped reads, atomic writes and checksums, and what they say when a disk or a permission refuses.
#include "base/file.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <fstream>
#include <system_error>

#include "fixtures/fault.hpp"
#include "fixtures/temp_dir.hpp"

namespace vixen {
namespace {

namespace fs = std::filesystem;
using test::fault_of;

class FileTest : public testing::Test {
 protected:
  size_t entries() const { return static_cast<size_t>(std::distance(fs::directory_iterator(folder_), {})); }

  const test::TempDir dir_;
  const fs::path& folder_ = dir_.path();
};

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

TEST_F(FileTest, MapsWhatWasWritten) {
  const std::string text("a\0b\xff line\n", 11);
  write_text_atomically(folder_ / "x", text);
  const MappedFile file(folder_ / "x");
  ASSERT_EQ(file.bytes().size(), text.size());
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(file.bytes().data()), text.size()), text);
  EXPECT_EQ(read_text(folder_ / "x"), text);
  EXPECT_EQ(entries(), 1u) << "no temporary file is left";
}

TEST_F(FileTest, AnEmptyFileIsAnEmptySpan) {
  write_text_atomically(folder_ / "x", "");
  EXPECT_TRUE(MappedFile(folder_ / "x").bytes().empty());
  EXPECT_EQ(read_text(folder_ / "x"), "");
}

// Pages that were read for the last time leave the process, and come back with the same bytes.
TEST_F(FileTest, PagesThatAreDoneLeaveTheProcess) {
  const std::string text(4 << 20, 'q');
  write_text_atomically(folder_ / "x", text);
  const MappedFile file(folder_ / "x");
  const auto resident_kib = [&] {
    std::ifstream maps("/proc/self/smaps");
    bool ours = false;
    for (std::string line; std::getline(maps, line);) {
      if (line.find('-') != std::string::npos && line.find("r--s") != std::string::npos)
        ours = line.ends_with((folder_ / "x").string());
      if (ours && line.starts_with("Rss:")) return std::stol(line.substr(4));
    }
    ADD_FAILURE() << "the mapping is not listed";
    return 0L;
  };
  const auto equal = [&] { return std::memcmp(file.bytes().data(), text.data(), text.size()) == 0; };
  EXPECT_TRUE(equal());
  EXPECT_GE(resident_kib(), 4096);
  file.advise_done(file.bytes().subspan(100, (3 << 20) - 100));  // whole pages only
  EXPECT_LE(resident_kib(), 1024 + 64);
  EXPECT_TRUE(equal());
  file.advise_done(file.bytes().first(0));
  EXPECT_THROW(file.advise_done(std::as_bytes(std::span(text))), BugError);
}

TEST_F(FileTest, AMappingMovesAndOutlivesTheName) {
  write_text_atomically(folder_ / "x", "first");
  write_text_atomically(folder_ / "y", "second!");
  MappedFile x(folder_ / "x");
  MappedFile y(folder_ / "y");
  fs::remove(folder_ / "x");
  y = std::move(x);
  EXPECT_EQ(y.bytes().size(), 5u);
  EXPECT_EQ(y.path(), folder_ / "x");
  const MappedFile z(std::move(y));
  EXPECT_EQ(static_cast<char>(z.bytes()[0]), 'f');
}

TEST_F(FileTest, FaultsOfReadingNamePathAndReason) {
  EXPECT_EQ(fault_of([&] { MappedFile(folder_ / "none"); }),
            "cannot open " + (folder_ / "none").string() + ": No such file or directory");
  EXPECT_EQ(fault_of([&] { read_text(folder_ / "none"); }),
            "cannot open " + (folder_ / "none").string() + ": No such file or directory");
  EXPECT_NE(fault_of([&] { MappedFile map(folder_); }).find("it is a folder"), std::string::npos);
  EXPECT_NE(fault_of([&] { checksum_file(folder_); }).find("it is a folder"), std::string::npos);
}

TEST_F(FileTest, FaultsOfWritingNamePathAndReason) {
  const auto missing = folder_ / "no" / "x";
  EXPECT_EQ(fault_of([&] { write_text_atomically(missing, "t"); }),
            "cannot write " + missing.string() + ": No such file or directory");
  EXPECT_NE(fault_of([&] { write_text_atomically(folder_, "t"); }).find("it is a folder"), std::string::npos);
  write_text_atomically(folder_ / "file", "t");
  const auto under_file = folder_ / "file" / "x";
  EXPECT_EQ(fault_of([&] { write_text_atomically(under_file, "t"); }),
            "cannot write " + under_file.string() + ": Not a directory");
  EXPECT_THROW(sync_path(folder_ / "none"), UserError);
}

TEST_F(FileTest, AFolderWithoutPermissionIsNamed) {
  fs::permissions(folder_, fs::perms::owner_read | fs::perms::owner_exec);
  constexpr uid_t kNobody = 65534;
  const bool root = geteuid() == 0;  // who may write anywhere: be someone else for a moment
  if (root) {
    ASSERT_EQ(seteuid(kNobody), 0);
  }
  const auto message = fault_of([&] { write_text_atomically(folder_ / "x", "t"); });
  if (root) {
    ASSERT_EQ(seteuid(0), 0);
  }
  fs::permissions(folder_, fs::perms::owner_all);
  EXPECT_EQ(message, "cannot write " + (folder_ / "x").string() + ": Permission denied");
}

TEST_F(FileTest, AFailedWriteLeavesTheOldFileAndNothingElse) {
  write_text_atomically(folder_ / "x", "old");
  EXPECT_THROW(write_atomically(folder_ / "x",
                                [](const fs::path& temporary) {
                                  std::ofstream(temporary) << "half of the new";
                                  throw std::runtime_error("the writer broke");
                                }),
               std::runtime_error);
  EXPECT_EQ(read_text(folder_ / "x"), "old");
  EXPECT_EQ(entries(), 1u);
}

TEST_F(FileTest, MessagesOfAWriterNameTheFinalPath) {
  const auto message = fault_of([&] {
    write_atomically(folder_ / "x", [](const fs::path& temporary) { fail_user("{}: bad row 3", temporary.string()); });
  });
  EXPECT_EQ(message, (folder_ / "x").string() + ": bad row 3");
  const auto full = fault_of([&] {
    write_atomically(folder_ / "x", [](const fs::path& temporary) {
      throw fs::filesystem_error("copy", temporary, std::make_error_code(std::errc::no_space_on_device));
    });
  });
  EXPECT_EQ(full, "cannot write " + (folder_ / "x").string() + ": No space left on device");
}

TEST_F(FileTest, AFileSizeLimitIsAUsersMistake) {
  std::signal(SIGXFSZ, SIG_IGN);  // write() then says EFBIG
  rlimit before = {};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit small = {4096, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const auto message = fault_of([&] { write_text_atomically(folder_ / "x", std::string(10'000, 'x')); });
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_EQ(message, "cannot write " + (folder_ / "x").string() + ": File too large");
  EXPECT_EQ(entries(), 0u);
}

TEST_F(FileTest, ChecksumsArePublishedXxh3AndTheSameStreamed) {
  // XXH3_64bits of nothing, seed 0: the value in xxHash's own tests.
  EXPECT_EQ(checksum({}), 0x2D06800538D394C2ull);
  std::string text;
  for (int i = 0; i < 3'000'000; ++i) text += static_cast<char>(i * 31 % 251);
  write_text_atomically(folder_ / "x", text);
  EXPECT_EQ(checksum_file(folder_ / "x"), checksum(bytes_of(text)));
  text[1'500'000] = static_cast<char>(text[1'500'000] ^ 1);
  EXPECT_NE(checksum_file(folder_ / "x"), checksum(bytes_of(text)));
}

}  // namespace
}  // namespace vixen

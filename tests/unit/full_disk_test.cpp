// A disk that is full or read-only, on a tmpfs of 64 KiB (needs the right to mount).
#include "base/file.hpp"

#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <fstream>
#include <system_error>

#include "fixtures/fault.hpp"
#include "fixtures/temp_dir.hpp"

namespace vixen {
namespace {

namespace fs = std::filesystem;
using test::fault_of;

class DiskTest : public testing::Test {
 protected:
  const test::TempDir dir_;
  const fs::path& folder_ = dir_.path();
};

TEST_F(DiskTest, AFullOrReadOnlyDiskIsNamed) {
  const auto disk = folder_ / "disk";
  fs::create_directory(disk);
  if (mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=64k") != 0) GTEST_SKIP() << "a tmpfs needs the right to mount";
  write_text_atomically(disk / "x", "old");
  const auto full = fault_of([&] { write_text_atomically(disk / "x", std::string(200'000, 'x')); });
  // A library that hides errno: its own exception, on a disk that is full.
  const auto hidden = fault_of([&] {
    write_atomically(disk / "y", [](const fs::path& temporary) {
      std::ofstream file(temporary);
      file << std::string(200'000, 'y') << std::flush;
      if (!file) throw std::runtime_error("H5Dwrite failed");
    });
  });
  const auto kept = read_text(disk / "x");
  ASSERT_EQ(mount("tmpfs", disk.c_str(), "tmpfs", MS_REMOUNT | MS_RDONLY, "size=64k"), 0);
  const auto read_only = fault_of([&] { write_text_atomically(disk / "z", "t"); });
  umount(disk.c_str());
  EXPECT_EQ(full, "cannot write " + (disk / "x").string() + ": No space left on device");
  EXPECT_EQ(hidden, "cannot write " + (disk / "y").string() + ": No space left on device");
  EXPECT_EQ(kept, "old");
  EXPECT_EQ(read_only, "cannot write " + (disk / "z").string() + ": Read-only file system");
}

}  // namespace
}  // namespace vixen

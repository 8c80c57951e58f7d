// A file on a disk that is full for a while: whole in the end, every byte once.
#include "base/append_file.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <optional>

#include "base/file.hpp"
#include "fixtures/fault.hpp"
#include "fixtures/temp_dir.hpp"
#include "train/metrics_log.hpp"

namespace vixen {
namespace {

/// No file may grow beyond `bytes` while it lives.
class SmallDisk {
 public:
  explicit SmallDisk(rlim_t bytes) {
    std::signal(SIGXFSZ, SIG_IGN);  // a write above the limit then says EFBIG
    EXPECT_EQ(getrlimit(RLIMIT_FSIZE, &before_), 0);
    const rlimit small = {bytes, before_.rlim_max};
    EXPECT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  }
  ~SmallDisk() { EXPECT_EQ(setrlimit(RLIMIT_FSIZE, &before_), 0); }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;

 private:
  rlimit before_ = {};
};

TEST(AppendFileTest, GoesOnWhereTheDiskStoppedIt) {
  const test::TempDir dir;
  const auto path = dir.path() / "lines";
  write_text_atomically(path, "before\n");
  AppendFile file(path);
  EXPECT_TRUE(file.append("first\n"));
  EXPECT_EQ(file.failure(), "");
  {
    const SmallDisk full(16);
    EXPECT_FALSE(file.append("second\n"));
    EXPECT_EQ(file.failure(), "cannot write " + path.string() + ": File too large");
    EXPECT_FALSE(file.append("third\n"));
  }
  EXPECT_TRUE(file.append("fourth\n"));
  EXPECT_EQ(file.failure(), "");
  EXPECT_EQ(read_text(path), "before\nfirst\nsecond\nthird\nfourth\n");
}

TEST(AppendFileTest, NamesAFileThatCannotBeMade) {
  const test::TempDir dir;
  EXPECT_EQ(test::fault_of([&] { AppendFile(dir.path() / "none" / "x"); }),
            "cannot write " + (dir.path() / "none/x").string() + ": No such file or directory");
}

TEST(MetricsLogTest, LosesNoLineToADiskThatIsFullForAWhile) {
  const test::TempDir full_dir, roomy_dir;
  std::string lines;
  std::vector<std::filesystem::path> event_files;
  for (const auto* dir : {&full_dir, &roomy_dir}) {
    MetricsLog log(dir->path(), 0);
    const auto write = [&](int64_t step) { log.write({{"step", step}, {"loss", 0.5}, {"seconds", {{"data", 1}}}}); };
    write(1);
    {
      std::optional<SmallDisk> full;
      if (dir == &full_dir) full.emplace(40);
      for (int64_t step = 2; step < 9; ++step) write(step);
    }
    write(9);
    const auto text = read_text(dir->path() / "metrics.jsonl");
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 9);
    if (lines.empty()) lines = text;
    EXPECT_EQ(text, lines);
    for (const auto& entry : std::filesystem::directory_iterator(dir->path()))
      if (entry.path().filename().string().starts_with("events")) event_files.push_back(entry.path());
  }
  ASSERT_EQ(event_files.size(), 2u);
  EXPECT_EQ(std::filesystem::file_size(event_files[0]), std::filesystem::file_size(event_files[1]));
}

}  // namespace
}  // namespace vixen

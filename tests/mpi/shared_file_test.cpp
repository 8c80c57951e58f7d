// Files that all ranks write: what is in them, ranks that do not see the file, faults of one rank.
#include "commands/shared_file.hpp"

#include <ATen/ATen.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <limits>

#include "base/atomic_file.hpp"
#include "base/check.hpp"
#include "base/file.hpp"
#include "comm/on_root.hpp"
#include "commands/sharded_output.hpp"
#include "data/hdf5_matrix.hpp"
#include "fixtures/temp_dir.hpp"
#include "mpi/mpi_main.hpp"

namespace vixen {
namespace {

using test::world;

class SharedFileTest : public ::testing::Test {
 protected:
  // The folder of rank 0, for all.
  SharedFileTest() : folder_(world().broadcast_host(dir_.path().string(), 0)) {}
  ~SharedFileTest() override { world().barrier(); }

  test::TempDir dir_;
  std::filesystem::path folder_;
};

at::Tensor numbers(int64_t n, int64_t width) {
  return at::arange(n * width, at::kFloat).view({n, width});
}

TEST_F(SharedFileTest, EveryRankWritesItsRows) {
  for (const int64_t n : {0, 3, 700, 40000}) {
    const RowShards shards(n, world().world_size());
    const RowRange own = shards.range(world().rank());
    const auto all = numbers(n, 5), counts = at::arange(2 * n, at::kInt).view({n, 2});
    const auto path = folder_ / fmt::format("{}.h5", n);
    write_sharded(path,
                  {{"/rows", {all.slice(0, own.begin, own.end), at::kFloat}},
                   {"/counts", {counts.slice(0, own.begin, own.end), at::kInt}}},
                  shards, world(), {{"created_by", "a test"}});
    const MatrixReader rows({path, "/rows"}), found({path, "/counts"});
    EXPECT_TRUE(rows.read({0, n}, true).equal(all)) << n;
    EXPECT_TRUE(found.read({0, n}, false).equal(counts)) << n;
    world().barrier();
  }
}

TEST_F(SharedFileTest, TextsStandInTheOrderOfRows) {
  for (const int64_t n : {0, 1, 5000}) {
    const RowShards shards(n, world().world_size(), 8);
    const int64_t begin = shards.range(world().rank()).begin;
    const auto path = folder_ / fmt::format("{}.txt", n);
    write_text_rows(path, "head\n", shards, world(), [&](int64_t i, std::string& text) {
      if ((begin + i) % 3 != 0) text += fmt::format("row {}\n", begin + i);
    });
    std::string expected = "head\n";
    for (int64_t row = 0; row < n; ++row)
      if (row % 3 != 0) expected += fmt::format("row {}\n", row);
    EXPECT_EQ(read_text(path), expected) << n;
    world().barrier();
  }
}

// A rank on another node finds no file, or another one, under the name.
TEST_F(SharedFileTest, RankZeroWritesForThoseThatDoNotSeeTheFile) {
  const auto path = folder_ / "seen";
  std::optional<AtomicFile> file;
  on_root(world(), [&] { file.emplace(path); });
  // As if each rank had a folder of its own: the piece goes to a file that only rank 0 can open.
  const auto hidden = folder_ / "hidden";
  on_root(world(), [&] {
    std::filesystem::create_directory(hidden);
    std::filesystem::rename(file->temporary(), hidden / "file");
  });
  const auto pieces_of = [&](const std::filesystem::path& temporary) {
    int64_t left = 3;
    write_pieces(path, temporary, world(), [&]() -> std::optional<FilePiece> {
      if (left-- == 0) return std::nullopt;
      const int64_t place = 3 * world().rank() + left;
      return FilePiece{8 * place, at::full({1}, 100 + place, at::kLong)};
    });
  };
  // /proc/self is another folder for every process, and this name a file of rank 0 alone.
  int descriptor = -1;
  on_root(world(), [&] { descriptor = ::open((hidden / "file").c_str(), O_RDWR); });
  pieces_of(fmt::format("/proc/self/fd/{}", descriptor));
  on_root(world(), [&] {
    const std::string text = read_text(hidden / "file");
    ASSERT_EQ(text.size(), 24u * static_cast<size_t>(world().world_size()));
    for (int64_t place = 0; place < 3 * world().world_size(); ++place) {
      int64_t value = 0;
      std::memcpy(&value, text.data() + 8 * place, 8);
      EXPECT_EQ(value, 100 + place);
    }
    ::close(descriptor);
  });
}

TEST_F(SharedFileTest, AFaultOfOneRankIsEveryonesAndLeavesTheOldFile) {
  const int last = world().world_size() - 1;
  const RowShards shards(2000, world().world_size());
  const RowRange own = shards.range(world().rank());
  auto rows = numbers(own.size(), 2);
  const auto path = folder_ / "kept.h5";
  on_root(world(), [&] { write_text_atomically(path, "before"); });
  if (world().rank() == last) rows[own.size() - 1][1] = std::numeric_limits<float>::quiet_NaN();
  try {
    write_sharded(path, {{"/rows", {rows, at::kFloat}}}, shards, world(), {});
    ADD_FAILURE() << "no error";
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find("/rows row 1999"), std::string::npos) << error.what();
  }
  EXPECT_EQ(read_text(path), "before");
  world().barrier();
  EXPECT_FALSE(std::filesystem::exists(partial_name(path)));
}

}  // namespace
}  // namespace vixen

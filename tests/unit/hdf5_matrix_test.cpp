// Matrices in HDF5 files: round trips by row ranges, any layout in, clear errors, nothing left behind.
#include <gtest/gtest.h>

#include <ATen/ATen.h>
#include <sys/resource.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <limits>

#include "base/check.hpp"
#include "base/file.hpp"
#include "data/hdf5_file.hpp"
#include "data/hdf5_matrix.hpp"
#include "fixtures/fault.hpp"
#include "fixtures/hdf5_builder.hpp"
#include "fixtures/temp_dir.hpp"

namespace vixen {
namespace {

using test::error_of;
using test::expect_mentions;

struct MatrixFile : testing::Test {
  test::TempDir dir;
  std::filesystem::path path = dir.path() / "m.h5";

  void write(const at::Tensor& values) const {
    MatrixWriter writer(path);
    writer.add("/embeddings", values.size(0), values.size(1), values.scalar_type());
    writer.write("/embeddings", 0, values);
    writer.close();
  }
  /// Past the writer's own check.
  void overwrite(const at::Tensor& values) const {
    const auto offset = Hdf5File(path, Hdf5File::Mode::kRead).locate("/embeddings").offset_bytes;
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(offset);
    file.write(static_cast<const char*>(values.const_data_ptr()), static_cast<std::streamsize>(values.nbytes()));
  }
};

TEST(MatrixPathText, FileAndDataset) {
  EXPECT_EQ(parse_matrix_path("a/b.h5", "/embeddings").file, "a/b.h5");
  EXPECT_EQ(parse_matrix_path("a/b.h5", "/embeddings").dataset, "/embeddings");
  EXPECT_EQ(parse_matrix_path("a/b.h5:/x/y", "/embeddings").file, "a/b.h5");
  EXPECT_EQ(parse_matrix_path("a/b.h5:/x/y", "/embeddings").dataset, "/x/y");
  EXPECT_EQ(parse_matrix_path("a:b.h5", "/e").file, "a:b.h5");
  EXPECT_THROW(parse_matrix_path("a.h5:/", "/e"), UserError);
}

TEST_F(MatrixFile, RoundTripOfEveryType) {
  at::Tensor source = at::arange(0, 70, at::kFloat).view({10, 7}) - 30.5;
  for (const auto dtype : {at::kHalf, at::kFloat, at::kInt, at::kLong}) {
    const at::Tensor values = source.to(dtype);
    write(values);
    const MatrixReader reader({path, "/embeddings"});
    EXPECT_EQ(reader.rows(), 10);
    EXPECT_EQ(reader.columns(), 7);
    EXPECT_EQ(reader.dtype(), dtype);
    EXPECT_TRUE(at::equal(reader.read({0, 10}, true), values));
    EXPECT_TRUE(at::equal(reader.read({3, 8}, true), values.slice(0, 3, 8)));
    EXPECT_EQ(reader.read({4, 4}, true).size(0), 0);
  }
}

TEST_F(MatrixFile, SeveralDatasetsInAnyOrder) {
  {
    MatrixWriter writer(path);
    writer.add("/scores", 6, 3, at::kFloat);
    writer.write("/scores", 4, at::full({2, 3}, 4, at::kFloat));
    writer.add("/deep/er/indices", 6, 3, at::kLong);
    writer.write("/deep/er/indices", 0, at::arange(18).view({6, 3}));
    writer.write("/scores", 0, at::full({4, 3}, 1, at::kDouble).t().contiguous().t());  // converted, made contiguous
    EXPECT_FALSE(std::filesystem::exists(path));
    writer.close();
  }
  const MatrixReader scores({path, "/scores"}), indices({path, "/deep/er/indices"});
  EXPECT_TRUE(at::equal(scores.read({0, 6}, true),
                        at::cat({at::full({4, 3}, 1, at::kFloat), at::full({2, 3}, 4, at::kFloat)})));
  EXPECT_TRUE(at::equal(indices.read({0, 6}, true), at::arange(18).view({6, 3})));
}

TEST_F(MatrixFile, EmptyMatrices) {
  write(at::empty({0, 5}));
  const MatrixReader reader({path, "/embeddings"});
  EXPECT_EQ(reader.rows(), 0);
  EXPECT_EQ(reader.columns(), 5);
  EXPECT_EQ(reader.read({0, 0}, true).numel(), 0);
}

TEST_F(MatrixFile, WithoutCloseNothingIsLeft) {
  {
    MatrixWriter writer(path);
    writer.add("/embeddings", 2, 2, at::kFloat);
    EXPECT_FALSE(std::filesystem::is_empty(dir.path()));
  }
  EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
}

TEST_F(MatrixFile, AnOldFileStaysUntilClose) {
  write(at::ones({2, 2}));
  MatrixWriter writer(path);
  writer.add("/embeddings", 1, 1, at::kFloat);
  EXPECT_EQ(MatrixReader({path, "/embeddings"}).rows(), 2);
  writer.write("/embeddings", 0, at::zeros({1, 1}));
  writer.close();
  EXPECT_EQ(MatrixReader({path, "/embeddings"}).rows(), 1);
}

TEST_F(MatrixFile, ReadsChunkedCompressedAndBigTypes) {
  const auto make = [&](hid_t type, const void* values) {
    const Hdf5Handle file(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT), H5Fclose);
    const hsize_t dims[] = {4, 3}, chunk[] = {2, 2};
    const Hdf5Handle space(H5Screate_simple(2, dims, nullptr), H5Sclose),
        creation(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
    H5Pset_chunk(creation.get(), 2, chunk);
    H5Pset_deflate(creation.get(), 4);
    const Hdf5Handle made(
        H5Dcreate2(file.get(), "/embeddings", type, space.get(), H5P_DEFAULT, creation.get(), H5P_DEFAULT), H5Dclose);
    ASSERT_GE(H5Dwrite(made.get(), type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values), 0);
  };
  const at::Tensor values = at::arange(12, at::kDouble).view({4, 3});
  make(H5T_IEEE_F64LE, values.const_data_ptr());
  {
    const MatrixReader reader({path, "/embeddings"});
    EXPECT_EQ(reader.dtype(), at::kDouble);
    EXPECT_TRUE(at::equal(reader.read({1, 3}, true), values.slice(0, 1, 3)));
  }
}

TEST_F(MatrixFile, NonFiniteRowsAreNamed) {
  for (const auto dtype : {at::kHalf, at::kFloat})
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
      at::Tensor values = at::ones({50, 33}, dtype);
      write(values);
      values[41][32] = bad;
      overwrite(values);
      const MatrixReader reader({path, "/embeddings"});
      expect_mentions(error_of([&] {
                        reader.read({40, 50}, true);
                      }),
                      {path.string() + ":/embeddings", "row 41", "NaN"});
      EXPECT_NO_THROW(reader.read({40, 50}, false));
      EXPECT_NO_THROW(reader.read({0, 41}, true));
    }
}

TEST_F(MatrixFile, ValuesBeyondFloat32AreNoNaN) {
  const auto write_doubles = [&](const at::Tensor& values) {
    const test::Hdf5Builder file(path);
    file.add("/embeddings", {{3, 2}, H5T_IEEE_F64LE, [](hid_t) {}, values.const_data_ptr(), H5T_NATIVE_DOUBLE});
  };
  at::Tensor values = at::ones({3, 2}, at::kDouble);
  values[1][0] = -1e200;
  write_doubles(values);
  {
    const MatrixReader large({path, "/embeddings"});
    EXPECT_TRUE(at::equal(large.read({0, 3}, true), values));  // finite they are
    expect_mentions(error_of([&] {
                      large.read_float({0, 3});
                    }),
                    {path.string() + ":/embeddings: row 1 holds -1e+200, beyond the range of float32"});
  }
  values[1][0] = std::numeric_limits<float>::max();
  values[2][1] = 1e-310;  // becomes 0
  write_doubles(values);
  EXPECT_TRUE(at::equal(MatrixReader({path, "/embeddings"}).read_float({0, 3}), values.to(at::kFloat)));
  values[1][0] = static_cast<double>(std::numeric_limits<float>::max()) * (1 + 0x1p-24);  // rounds to infinity
  write_doubles(values);
  expect_mentions(error_of([&] { MatrixReader({path, "/embeddings"}).read_float({0, 3}); }), {"row 1", "beyond"});
}

TEST_F(MatrixFile, NonFiniteValuesAreNotWritten) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const auto attempt = [&](float value, at::ScalarType dtype, Floats floats) {
    return test::fault_of([&] {
      MatrixWriter writer(path);
      writer.add("/scores", 9, 2, dtype, floats);
      at::Tensor values = at::ones({4, 2});
      values[1][1] = value;
      writer.write("/scores", 5, values);
      writer.close();
    });
  };
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), kInfinity, -kInfinity}) {
    expect_mentions(attempt(bad, at::kFloat, Floats::kFinite), {path.string() + ": /scores row 6 would be written as"});
    EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
  }
  expect_mentions(attempt(1e6f, at::kHalf, Floats::kFinite), {"/scores row 6 would be written as infinity"});
  expect_mentions(attempt(kInfinity, at::kFloat, Floats::kFiniteOrMinusInfinity), {"written as infinity"});
  expect_mentions(attempt(std::numeric_limits<float>::quiet_NaN(), at::kFloat, Floats::kFiniteOrMinusInfinity),
                  {"written as NaN"});
  EXPECT_EQ(attempt(-kInfinity, at::kFloat, Floats::kFiniteOrMinusInfinity), "(no fault)");
  EXPECT_EQ(MatrixReader({path, "/scores"}).read({6, 7}, false)[0][1].item<float>(), -kInfinity);
}

TEST_F(MatrixFile, ClearErrors) {
  expect_mentions(error_of([&] { MatrixReader({path, "/embeddings"}); }), {path.string(), "no such file"});
  write(at::ones({100, 100}));
  expect_mentions(error_of([&] { MatrixReader({path, "/scores"}); }), {path.string() + ":/scores", "no such dataset"});
  expect_mentions(error_of([&] { MatrixReader({path, "/"}); }), {path.string() + ":/", "no such dataset"});
  std::filesystem::resize_file(path, 20000);
  expect_mentions(error_of([&] { MatrixReader({path, "/embeddings"}); }), {path.string(), "truncated"});
  {
    Hdf5File file(path, Hdf5File::Mode::kCreate);
    const int64_t shape[] = {4};
    file.create("/vector", shape, ElementType::kFloat32);
    const int64_t matrix[] = {4, 4};
    file.create("/bytes", matrix, ElementType::kUint8);
    file.close();
  }
  expect_mentions(error_of([&] { MatrixReader({path, "/vector"}); }), {"has 1 dimensions, expected 2"});
  expect_mentions(error_of([&] { MatrixReader({path, "/bytes"}); }), {"holds uint8, expected float16"});
  const auto message = error_of([&] { MatrixWriter(dir.path() / "no" / "m.h5"); });
  expect_mentions(message, {"m.h5: ", "No such file or directory"});  // the name that was given, not the temporary one
  EXPECT_EQ(message.find(".partial"), std::string::npos) << message;
  std::ofstream(path) << "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n";
  expect_mentions(error_of([&] {
                    MatrixReader({path, "/embeddings"});
                  }),
                  {"not an HDF5 file", "found a Git LFS pointer"});
}

TEST_F(MatrixFile, AFullDiskIsOneLine) {
  // A process of its own, whose files may not grow beyond a limit: the error must be a UserError, and the exit a clean
  // one (HDF5's own clean-up crashes on a file that it could not flush).
  for (const rlim_t limit : {rlim_t{0}, rlim_t{600}, rlim_t{8192}}) {
    const auto run = [&] {
      std::signal(SIGXFSZ, SIG_IGN);
      const rlimit small{limit, limit};
      if (setrlimit(RLIMIT_FSIZE, &small) != 0) std::exit(3);
      try {
        MatrixWriter writer(path);
        writer.add("/embeddings", 100, 100, at::kFloat);
        writer.write("/embeddings", 0, at::ones({100, 100}));
        writer.close();
      } catch (const UserError& error) {
        const std::string message = error.what();
        const bool clear = message.find(path.string() + ":") != std::string::npos &&
                           message.find("File too large") != std::string::npos;
        if (!clear) std::fprintf(stderr, "%s\n", error.what());
        std::exit(clear ? 2 : 4);
      }
      std::exit(0);
    };
    EXPECT_EXIT(run(), testing::ExitedWithCode(2), "") << "limit " << limit;
    EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
  }
}

}  // namespace
}  // namespace vixen

// Ranking files of others: read as they are, or refused by row.
#include "eval/predictions_file.hpp"

#include <gtest/gtest.h>

#include <ATen/ATen.h>

#include <limits>

#include "fixtures/fault.hpp"
#include "fixtures/hdf5_builder.hpp"
#include "fixtures/temp_dir.hpp"

namespace vixen {
namespace {

using test::expect_mentions;

constexpr int64_t kLabels = 10;

struct Predictions : testing::Test {
  test::TempDir dir;
  std::filesystem::path path = dir.path() / "p.h5";
  at::Tensor ids = at::tensor({3, 1, 4, 0, 9, 2, 5, -1, -1}, at::kLong).view({3, 3});
  at::Tensor scores = at::tensor({.9, .5, .5, 3., 2., 1., .1, 0., 0.}, at::kDouble).view({3, 3});

  void write(hid_t ids_type = H5T_STD_I64LE, hid_t scores_type = H5T_IEEE_F32LE) const {
    const auto shape = [](const at::Tensor& values) {
      return std::vector<hsize_t>{static_cast<hsize_t>(values.size(0)), static_cast<hsize_t>(values.size(1))};
    };
    const at::Tensor exact = ids.to(at::kDouble);
    const test::Hdf5Builder file(path);
    file.add("/indices", {shape(ids), ids_type, [](hid_t) {}, exact.const_data_ptr(), H5T_NATIVE_DOUBLE});
    if (scores.defined())
      file.add("/scores", {shape(scores), scores_type, [](hid_t) {}, scores.const_data_ptr(), H5T_NATIVE_DOUBLE});
  }
  TopK read(RowRange range = {0, 3}, int64_t n_labels = kLabels) const {
    return read_predictions(path, range, 3, n_labels);
  }
  std::string error(RowRange range = {0, 3}, int64_t n_labels = kLabels) const {
    return test::error_of([&] { read(range, n_labels); });
  }
};

TEST_F(Predictions, EveryTypeThatHoldsThem) {
  for (const hid_t type : {H5T_STD_I64LE, H5T_STD_I32LE, H5T_STD_I64BE, H5T_IEEE_F32LE, H5T_IEEE_F64LE})
    for (const hid_t score_type : {H5T_IEEE_F32LE, H5T_IEEE_F64LE}) {
      write(type, score_type);
      const TopK found = read({1, 3});
      EXPECT_TRUE(at::equal(found.ids, ids.slice(0, 1, 3)));
      EXPECT_TRUE(at::equal(found.scores, scores.slice(0, 1, 3).to(at::kFloat)));
    }
  scores = at::tensor({9, 8, 7, 3, 2, 1, 5, 0, 0}, at::kDouble).view({3, 3});
  write(H5T_STD_I64LE, H5T_STD_I32LE);
  EXPECT_EQ(read().scores[0][0].item<float>(), 9);
}

TEST_F(Predictions, WhatStandsBesideMinusOneDoesNotCount) {
  scores[2][1] = std::numeric_limits<double>::quiet_NaN();
  scores[2][2] = std::numeric_limits<double>::infinity();
  write();
  EXPECT_TRUE(at::equal(read().ids, ids));
}

TEST_F(Predictions, LabelsThatAreRepeatedOutOfRangeOrBehindTheEnd) {
  ids[1][2] = 0;
  write();
  EXPECT_EQ(error(), path.string() + ":/indices: row 1 holds label 0 more than once, expected each label at most once");
  EXPECT_NO_THROW(read({2, 3}));  // other ranks' rows
  ids[1][2] = 10;
  write();
  expect_mentions(error(), {"/indices: row 1 holds label 10, the data set has 10 labels"});
  ids[1][2] = -2;
  write();
  expect_mentions(error(), {"/indices: row 1 holds label -2"});
  ids[1][1] = -1;
  ids[1][2] = 7;
  write();
  expect_mentions(error(), {"/indices: row 1: label 7 stands behind -1"});
}

TEST_F(Predictions, IdsThatAreNoWholeNumbers) {
  at::Tensor odd = ids.to(at::kDouble);
  for (const auto& [value, text] :
       {std::pair{2.5, "2.5 is no label number, expected whole numbers"},
        {std::numeric_limits<double>::quiet_NaN(), "nan is no label number"},
        {std::numeric_limits<double>::infinity(), "inf is no label number"},
        {1e300, "expected an integer type: Double holds whole numbers to 9007199254740992"}}) {
    odd[1][1] = value;
    ids = odd;
    write(H5T_IEEE_F64LE);
    expect_mentions(error(), {path.string() + ":/indices: row 1, place 2", text});
  }
  // A half-precision float rounds ids above 2048, a single-precision one above 2^24.
  ids = at::tensor({2048, 1, 4, 0, 9, 2, 5, -1, -1}, at::kLong).view({3, 3});
  const Hdf5Handle half(H5Tcopy(H5T_IEEE_F32LE), H5Tclose);
  H5Tset_fields(half.get(), 15, 10, 5, 0, 10);
  H5Tset_size(half.get(), 2);
  H5Tset_ebias(half.get(), 15);
  write(half.get());
  EXPECT_EQ(read({0, 3}, 5000).ids[0][0].item<int64_t>(), 2048);
  ids[0][0] = 2050;
  write(half.get());
  expect_mentions(error({0, 3}, 5000), {"row 0, place 1: 2050", "Half holds whole numbers to 2048"});
  ids[0][0] = 16777218;
  write(H5T_IEEE_F32LE);
  expect_mentions(error({0, 3}, 20000000), {"row 0, place 1: 16777218", "Float holds whole numbers to 16777216"});
}

TEST_F(Predictions, ScoresThatDoNotBelong) {
  scores[1][1] = std::numeric_limits<double>::quiet_NaN();
  write();
  expect_mentions(error(), {path.string() + ":/scores: row 1: the score of label 9 is nan"});
  scores[1][1] = 3.5;
  write();
  expect_mentions(error(), {path.string() + ":/scores: row 1: 3.5 follows 3, expected the best label first"});
  scores = scores.slice(1, 0, 2).contiguous();
  write();
  expect_mentions(error(), {path.string() + ":/scores: has the shape [3, 2], expected [3, 3] as /indices has"});
  scores = at::zeros({2, 3}, at::kDouble);
  write();
  expect_mentions(error(), {path.string() + ":/scores: has the shape [2, 3], expected [3, 3]"});
  scores.reset();
  write();
  expect_mentions(error(), {path.string() + ":/scores: no such dataset, the file has /indices"});
}

TEST_F(Predictions, OneRowAQuery) {
  write();
  expect_mentions(test::error_of([&] {
                    read_predictions(path, {0, 4}, 4, kLabels);
                  }),
                  {path.string() + ":/indices: has 3 rows, expected 4, one for each query of the test split"});
}

}  // namespace
}  // namespace vixen

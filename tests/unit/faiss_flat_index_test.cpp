// FAISS's flat index: the same labels as the exact search, through memory and through a file.
#include "search/faiss_flat_index.hpp"

#include <ATen/ATen.h>
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>

#include "fixtures/fault.hpp"
#include "fixtures/temp_dir.hpp"
#include "search/exact_search.hpp"

namespace vixen {
namespace {

at::Tensor unit_rows(int64_t n, int64_t d, uint64_t seed) {
  const at::Tensor rows = at::randn({n, d}, at::make_generator<at::CPUGeneratorImpl>(seed));
  return rows / rows.norm(2, 1, true);
}

class FaissFlatIndexTest : public testing::Test {
 protected:
  std::string error_of_loading(const std::string& name) {
    return test::fault_of([&] { FaissFlatIndex::load(folder_ / name); });
  }

  const test::TempDir dir_;
  const std::filesystem::path& folder_ = dir_.path();
};

TEST_F(FaissFlatIndexTest, FindsWhatTheExactSearchFinds) {
  const at::Tensor labels = unit_rows(4000, 40, 1), queries = unit_rows(50, 40, 2);
  const TopK exact = ExactIndex(labels, 300, {}).search(queries, 20);
  const TopK found = FaissFlatIndex(labels, 300).search(queries, 20);
  EXPECT_TRUE(at::equal(found.ids, exact.ids));
  EXPECT_TRUE(at::equal(found.scores, exact.scores)) << "canonical scores";
}

TEST_F(FaissFlatIndexTest, AFileGivesTheSameIndex) {
  const at::Tensor labels = unit_rows(500, 24, 3), queries = unit_rows(7, 24, 4);
  const FaissFlatIndex built(labels.to(at::kHalf));
  built.save(folder_ / "labels.faiss");
  const FaissFlatIndex read = FaissFlatIndex::load(folder_ / "labels.faiss");
  EXPECT_EQ(read.rows(), 500);
  EXPECT_EQ(read.width(), 24);
  EXPECT_TRUE(at::equal(read.search(queries, 9).ids, built.search(queries, 9).ids));
}

TEST_F(FaissFlatIndexTest, BlocksGiveTheIndexOfTheWhole) {
  const at::Tensor labels = unit_rows(500, 24, 3), queries = unit_rows(7, 24, 4);
  const FaissFlatIndex whole(labels, 10);
  FaissFlatIndex built(at::empty({0, 24}), 10);
  for (const auto& block : labels.split(128)) built.add(block);
  EXPECT_EQ(built.rows(), 500);
  EXPECT_TRUE(at::equal(built.search(queries, 9).ids, whole.search(queries, 9).ids));
  at::Tensor nan = at::ones({3, 24});
  nan[1][1] = std::nanf("");
  EXPECT_THROW(built.add(nan), UserError);
  EXPECT_EQ(built.rows(), 500) << "a refused block leaves the index as it was";
}

TEST_F(FaissFlatIndexTest, MissingPlacesArePadded) {
  const TopK found = FaissFlatIndex(at::ones({2, 4}), 10).search(at::ones({1, 4}), 4);
  EXPECT_EQ(found.ids[0].slice(0, 0, 2).sum().item<int64_t>(), 21);
  EXPECT_TRUE(found.ids[0].slice(0, 2).eq(-1).all().item<bool>());
  EXPECT_TRUE(found.scores[0].slice(0, 2).eq(-std::numeric_limits<float>::infinity()).all().item<bool>());
  const TopK none = FaissFlatIndex(at::empty({0, 4})).search(at::ones({2, 4}), 3);
  EXPECT_TRUE(none.ids.eq(-1).all().item<bool>());
}

TEST_F(FaissFlatIndexTest, BadInputIsTheUsersMistake) {
  EXPECT_NE(error_of_loading("absent.faiss").find("absent.faiss: no such file"), std::string::npos);
  std::ofstream(folder_ / "text.faiss") << "this is no index at all";
  EXPECT_NE(error_of_loading("text.faiss").find("damaged"), std::string::npos);
  FaissFlatIndex(unit_rows(100, 8, 5)).save(folder_ / "cut.faiss");
  std::filesystem::resize_file(folder_ / "cut.faiss", 1000);
  EXPECT_NE(error_of_loading("cut.faiss").find("damaged"), std::string::npos);
  at::Tensor nan = at::ones({3, 4});
  nan[1][1] = std::nanf("");
  EXPECT_THROW(FaissFlatIndex{nan}, UserError);
  EXPECT_THROW(FaissFlatIndex(at::ones({3, 4})).search(at::ones({1, 5}), 1), UserError);
  EXPECT_THROW(FaissFlatIndex(at::ones({3, 4})).save(folder_ / "absent" / "x.faiss"), UserError);
}

// cmake/Torch.cmake says why: another BLAS found first would also run torch's own matrix products.
TEST(FaissFlatIndex, MatrixProductsAreTorchs) {
  for (const char* name : {"sgemm_", "dgemm_", "sgemv_"}) {
    void* function = dlsym(RTLD_DEFAULT, name);
    ASSERT_NE(function, nullptr) << name;
    Dl_info info{};
    ASSERT_NE(dladdr(function, &info), 0) << name;
    EXPECT_NE(std::string(info.dli_fname).find("libtorch_cpu"), std::string::npos) << name << " of " << info.dli_fname;
  }
}

}  // namespace
}  // namespace vixen

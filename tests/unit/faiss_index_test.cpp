// FAISS's index: the same labels as the exact search, through memory and through a file.
#include "search/faiss_index.hpp"

#include <ATen/ATen.h>
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>

#include "fixtures/fault.hpp"
#include "fixtures/temp_dir.hpp"

namespace vixen {
namespace {

at::Tensor unit_rows(int64_t n, int64_t d, uint64_t seed) {
  const at::Tensor rows = at::randn({n, d}, at::make_generator<at::CPUGeneratorImpl>(seed));
  return rows / rows.norm(2, 1, true);
}

class FaissIndexTest : public testing::Test {
 protected:
  std::string error_of_loading(const std::string& name) {
    return test::fault_of([&] { FaissIndex::load(folder_ / name); });
  }

  const test::TempDir dir_;
  const std::filesystem::path& folder_ = dir_.path();
};

TEST_F(FaissIndexTest, FindsWhatTheExactSearchFinds) {
  const at::Tensor labels = unit_rows(4000, 40, 1), queries = unit_rows(50, 40, 2);
  const TopK exact = LabelIndex(labels, 300, {}).search(queries, 20);
  const TopK found = FaissIndex(labels, 300).search(queries, 20);
  EXPECT_TRUE(at::equal(found.ids, exact.ids));
  EXPECT_TRUE(at::allclose(found.scores, exact.scores, 0, 1e-6));
}

TEST_F(FaissIndexTest, AFileGivesTheSameIndex) {
  const at::Tensor labels = unit_rows(500, 24, 3), queries = unit_rows(7, 24, 4);
  const FaissIndex built(labels.to(at::kHalf));
  built.save(folder_ / "labels.faiss");
  const FaissIndex read = FaissIndex::load(folder_ / "labels.faiss");
  EXPECT_EQ(read.rows(), 500);
  EXPECT_EQ(read.width(), 24);
  EXPECT_TRUE(at::equal(read.search(queries, 9).ids, built.search(queries, 9).ids));
}

TEST_F(FaissIndexTest, BlocksGiveTheIndexOfTheWhole) {
  const at::Tensor labels = unit_rows(500, 24, 3), queries = unit_rows(7, 24, 4);
  const FaissIndex whole(labels, 10);
  FaissIndex built(at::empty({0, 24}), 10);
  for (const auto& block : labels.split(128)) built.add(block);
  EXPECT_EQ(built.rows(), 500);
  EXPECT_TRUE(at::equal(built.search(queries, 9).ids, whole.search(queries, 9).ids));
  at::Tensor nan = at::ones({3, 24});
  nan[1][1] = std::nanf("");
  EXPECT_THROW(built.add(nan), UserError);
  EXPECT_EQ(built.rows(), 500) << "a refused block leaves the index as it was";
}

TEST_F(FaissIndexTest, MissingPlacesArePadded) {
  const TopK found = FaissIndex(at::ones({2, 4}), 10).search(at::ones({1, 4}), 4);
  EXPECT_EQ(found.ids[0].slice(0, 0, 2).sum().item<int64_t>(), 21);
  EXPECT_TRUE(found.ids[0].slice(0, 2).eq(-1).all().item<bool>());
  EXPECT_TRUE(found.scores[0].slice(0, 2).eq(-std::numeric_limits<float>::infinity()).all().item<bool>());
  const TopK none = FaissIndex(at::empty({0, 4})).search(at::ones({2, 4}), 3);
  EXPECT_TRUE(none.ids.eq(-1).all().item<bool>());
}

TEST_F(FaissIndexTest, BadInputIsTheUsersMistake) {
  EXPECT_NE(error_of_loading("absent.faiss").find("absent.faiss: no such file"), std::string::npos);
  std::ofstream(folder_ / "text.faiss") << "this is no index at all";
  EXPECT_NE(error_of_loading("text.faiss").find("damaged"), std::string::npos);
  FaissIndex(unit_rows(100, 8, 5)).save(folder_ / "cut.faiss");
  std::filesystem::resize_file(folder_ / "cut.faiss", 1000);
  EXPECT_NE(error_of_loading("cut.faiss").find("damaged"), std::string::npos);
  at::Tensor nan = at::ones({3, 4});
  nan[1][1] = std::nanf("");
  EXPECT_THROW(FaissIndex{nan}, UserError);
  EXPECT_THROW(FaissIndex(at::ones({3, 4})).search(at::ones({1, 5}), 1), UserError);
  EXPECT_THROW(FaissIndex(at::ones({3, 4})).save(folder_ / "absent" / "x.faiss"), UserError);
}

// cmake/Torch.cmake says why: another BLAS found first would also run torch's own matrix products.
TEST(FaissIndex, MatrixProductsAreTorchs) {
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

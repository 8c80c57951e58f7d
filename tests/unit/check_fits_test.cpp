// Data sets whose tokenizer knows more tokens than the model has rows: only what a text or prompt uses counts.
#include <gtest/gtest.h>

#include "fixtures/fault.hpp"
#include "fixtures/tiny_model.hpp"
#include "fixtures/toy_dataset.hpp"
#include "model/encoder.hpp"
#include "model/make_encoder.hpp"

namespace vixen {
namespace {

constexpr int64_t kRows = 101;  // of tiny_bert's table

// The message of check_fits for a data set with `extra` tokens more than the model has rows, changed by `change`.
std::string fault(int64_t extra, const std::function<void(DatasetContent&)>& change, const PackOptions& pack = {}) {
  const test::TempDir dir;
  DatasetContent content = test::toy_content({.vocabulary = kRows});
  content.info.vocabulary = kRows + extra;
  change(content);
  write_dataset(dir.path() / "toy.h5", content);
  const Dataset dataset(dir.path() / "toy.h5");
  EncoderOptions options;
  options.model.path = testing::tiny_model("tiny_bert").string();
  ParameterStore store;
  const auto encoder = make_encoder(options, store);
  EXPECT_EQ(encoder->traits().vocabulary, kRows);
  return test::fault_of([&] { check_fits(*encoder, dataset, pack); });
}

TEST(CheckFits, TokensThatNoTextUsesDoNotCount) {
  const auto nothing = [](DatasetContent&) {};
  EXPECT_EQ(fault(0, nothing), "(no fault)");
  EXPECT_EQ(fault(1, nothing), "(no fault)");
  EXPECT_EQ(fault(1000, nothing), "(no fault)");
}

TEST(CheckFits, TheRowAndTokenAreNamed) {
  const std::string message = fault(3, [](DatasetContent& content) {
    const auto first = static_cast<size_t>(content.train.tokens.offsets[7]);
    content.train.tokens.values[first] = kRows;
    content.train.tokens.values[first + 1] = kRows + 2;
    content.train.texts[7] = "a\u200bb";
  });
  EXPECT_FAULT(message,
               "toy.h5: train row 7 (\"a\\u200bb\") uses token 103, the model's table has 101 rows (0 to 100): ");
  const auto last_row = [](DatasetContent& content) { content.labels.tokens.values.back() = kRows; };
  EXPECT_FAULT(fault(1, last_row), "label row 39 (");
  const auto test_row = [](DatasetContent& content) { content.test.tokens.values.front() = kRows; };
  EXPECT_FAULT(fault(1, test_row), "test row 0 (");
}

TEST(CheckFits, PromptsCount) {
  PackOptions pack;
  pack.prompt.closing = {5, kRows};
  EXPECT_FAULT(fault(
                   1, [](DatasetContent&) {}, pack),
               "template.closing uses token 101");
}

}  // namespace
}  // namespace vixen

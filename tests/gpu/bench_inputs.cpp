// Inputs of tests/gpu/run_all, random, of any size: models of the shapes of real ones with a data set each, and
// matrices to search in.
//
//   gpu_bench_inputs bert    FOLDER width layers heads feed_forward vocabulary          train test labels
//   gpu_bench_inputs qwen2   FOLDER width layers heads kv_heads feed_forward vocabulary train test labels
//   gpu_bench_inputs matrix  FILE.h5 rows columns seed
//
// FOLDER gets model/ and data.h5; texts are 26 positions long on average, at most 50. A matrix is float16 /embeddings,
// of rows of unit length.
#include <ATen/ATen.h>

#include <charconv>
#include <cstdio>
#include <filesystem>
#include <string_view>
#include <vector>

#include "base/check.hpp"
#include "base/version.hpp"
#include "data/hdf5_matrix.hpp"
#include "fixtures/tiny_decoder.hpp"
#include "fixtures/toy_dataset.hpp"
#include "fixtures/toy_model.hpp"

namespace vixen::test {
namespace {

constexpr int64_t kMaxLength = 52;

class Words {
 public:
  Words(int argc, char** argv) : words_(argv + 1, argv + argc) {}
  std::string_view text() {
    if (next_ == words_.size())
      fail_user("gpu_bench_inputs: a word is missing after '{}'", words_.empty() ? "" : words_.back());
    return words_[next_++];
  }
  int64_t number() {
    const std::string_view word = text();
    int64_t value = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
    if (error != std::errc() || end != word.data() + word.size() || value < 1)
      fail_user("gpu_bench_inputs: '{}' is no number from 1", word);
    return value;
  }

 private:
  std::vector<std::string_view> words_;
  size_t next_ = 0;
};

void write_data(const std::filesystem::path& folder, ToyOptions options, Words& words) {
  options.n_train = words.number();
  options.n_test = words.number();
  options.n_labels = words.number();
  options.max_length = kMaxLength;
  write_toy_dataset(folder / "data.h5", options);
}

void make_bert(Words& words) {
  const std::filesystem::path folder = words.text();
  std::filesystem::create_directories(folder);
  ToyModelOptions model{.positions = 64, .repeat = true};
  model.width = words.number();
  model.layers = words.number();
  model.heads = words.number();
  model.feed_forward = words.number();
  model.vocabulary = words.number();
  const auto sha = write_toy_model(folder / "model", model);
  write_data(folder, {.vocabulary = model.vocabulary, .tokenizer_sha256 = sha}, words);
}

void make_qwen2(Words& words) {
  const std::filesystem::path folder = words.text();
  std::filesystem::create_directories(folder);
  TinyDecoderOptions model{.positions = 64, .dtype = at::kBFloat16, .repeat = true};
  model.width = words.number();
  model.layers = words.number();
  model.heads = words.number();
  model.kv_heads = words.number();
  model.head_dim = model.width / model.heads;
  model.feed_forward = words.number();
  model.vocabulary = words.number();
  const auto sha = write_tiny_decoder(folder / "model", model);
  write_data(folder, {.vocabulary = model.vocabulary, .decoder = true, .tokenizer_sha256 = sha}, words);
}

void make_matrix(Words& words) {
  const std::filesystem::path file = words.text();
  const int64_t rows = words.number(), columns = words.number();
  const auto generator = at::make_generator<at::CPUGeneratorImpl>(static_cast<uint64_t>(words.number()));
  constexpr int64_t kBlock = 65536;
  MatrixWriter writer(file, {{"created_by", created_by("bench")}});
  writer.add("/embeddings", rows, columns, at::kHalf);
  for (int64_t begin = 0; begin < rows; begin += kBlock) {
    const auto block = at::randn({std::min(kBlock, rows - begin), columns}, generator);
    const auto lengths = at::linalg_vector_norm(block, 2, at::IntArrayRef{1}, /*keepdim=*/true);
    writer.write("/embeddings", begin, (block / lengths).to(at::kHalf));
  }
  writer.close();
}

void run(Words words) {
  const std::string_view kind = words.text();
  if (kind == "bert") return make_bert(words);
  if (kind == "qwen2") return make_qwen2(words);
  if (kind == "matrix") return make_matrix(words);
  fail_user("gpu_bench_inputs: '{}'; expected bert, qwen2 or matrix", kind);
}

}  // namespace
}  // namespace vixen::test

int main(int argc, char** argv) {
  try {
    vixen::test::run({argc, argv});
    return 0;
  } catch (const vixen::UserError& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 2;
  }
}

// Whether a data set fits an encoder.
#include "model/encoder.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "base/check.hpp"
#include "base/file.hpp"
#include "base/sha256.hpp"
#include "base/text.hpp"

namespace vixen {
namespace {

// UserError at a token that the model's table has no row for. A tokenizer may know more tokens than the table has rows
// (added ones, for which nobody resized the model): only those count that a text uses.
void check_tokens(int64_t rows, const Dataset& dataset, const SequenceTemplate& prompt) {
  const std::string file = shown(dataset.path().string());
  const auto fail = [&](const std::string& where, int64_t token) {
    fail_user(
        "{}: {} uses token {}, the model's table has {} rows (0 to {}): give the model more rows "
        "(resize_token_embeddings of transformers), or prepare the data set with a tokenizer of its size",
        file, where, token, rows, rows - 1);
  };
  for (const auto& [name, piece] :
       {std::pair{"text_prefix", &prompt.text_prefix}, std::pair{"image_prefix", &prompt.image_prefix},
        std::pair{"closing", &prompt.closing}})
    for (const int32_t token : *piece)
      if (token >= rows) fail(fmt::format("template.{}", name), token);
  if (dataset.info().vocabulary <= rows) return;  // no token is as high
  for (const auto& [name, table] : {std::pair{"label", &dataset.labels()}, std::pair{"train", &dataset.train()},
                                    std::pair{"test", &dataset.test()}}) {
    const auto& values = table->tokens.values;
    const auto highest = std::max_element(values.begin(), values.end());
    if (highest == values.end() || *highest < rows) continue;
    const auto& offsets = table->tokens.offsets;
    const auto row = std::upper_bound(offsets.begin(), offsets.end(), highest - values.begin()) - offsets.begin() - 1;
    fail(fmt::format("{} row {} (\"{}\")", name, row, shown(table->text(row), 60)), *highest);
  }
}

}  // namespace

void check_fits(const Encoder& encoder, const Dataset& dataset, const PackOptions& pack) {
  check_tokens(encoder.traits().vocabulary, dataset, pack.prompt);
  const int64_t longest = longest_sequence(dataset, pack);
  if (longest > encoder.traits().max_positions)
    fail_user("{}: sequences of up to {} positions, the model has {}: prepare the data set with a smaller --max-length",
              dataset.path().string(), longest, encoder.traits().max_positions);
}

std::string tokenizer_sha256(const std::filesystem::path& folder) {
  const MappedFile file(folder / "tokenizer.json");
  return sha256(file.bytes());
}

}  // namespace vixen

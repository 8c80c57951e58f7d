// The report on a data set: sizes, lengths, labels, pictures, propensities, examples.
// N: queries of a split; L: labels; M: pictures.
#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>

#include "base/check.hpp"
#include "base/text.hpp"
#include "commands/inspect.hpp"
#include "commands/text_table.hpp"
#include "data/dataset.hpp"
#include "data/dataset_identity.hpp"
#include "data/finite.hpp"
#include "data/hdf5_summary.hpp"
#include "data/pairs.hpp"
#include "eval/metrics.hpp"

namespace vixen {
namespace {

template <typename T>
std::vector<int64_t> row_lengths(const Ragged<T>& rows) {
  std::vector<int64_t> lengths(static_cast<size_t>(rows.size()));
  for (size_t i = 0; i < lengths.size(); ++i) lengths[i] = rows.offsets[i + 1] - rows.offsets[i];
  return lengths;
}

/// "mean", "median", "90%", "max" of counts.
std::vector<std::string> spread(std::vector<int64_t> counts) {
  if (counts.empty()) return {"-", "-", "-", "-"};
  std::sort(counts.begin(), counts.end());
  const double mean = static_cast<double>(std::accumulate(counts.begin(), counts.end(), int64_t{0})) /
                      static_cast<double>(counts.size());
  return {fmt::format("{:.2f}", mean), with_commas(counts[counts.size() / 2]),
          with_commas(counts[std::min(counts.size() - 1, counts.size() * 9 / 10)]), with_commas(counts.back())};
}

std::string percent(int64_t part, int64_t whole) {
  if (whole == 0) return "-";
  const double share = 100.0 * static_cast<double>(part) / static_cast<double>(whole);
  return part > 0 && share < 0.1 ? "<0.1%" : fmt::format("{:.1f}%", share);
}

std::vector<std::string> joined(std::vector<std::string> a, const std::vector<std::string>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

int64_t rows_with_values(const std::vector<int64_t>& lengths) {
  return std::count_if(lengths.begin(), lengths.end(), [](int64_t n) { return n > 0; });
}

/// Token lengths in at most ten equal bins, with bars for all three tables.
std::string token_histogram(const Dataset& dataset) {
  const SequenceTable* tables[] = {&dataset.train(), &dataset.test(), &dataset.labels()};
  std::vector<int64_t> lengths[3];
  int64_t longest = 1;
  for (size_t t = 0; t < 3; ++t) {
    lengths[t] = row_lengths(tables[t]->tokens);
    for (const int64_t n : lengths[t]) longest = std::max(longest, n);
  }
  const int64_t width = (longest + 9) / 10, n_bins = (longest + width - 1) / width;
  TextTable table({"tokens a text", "train", "", "test", "", "label", ""});
  std::vector<std::vector<int64_t>> bins(3, std::vector<int64_t>(static_cast<size_t>(n_bins), 0));
  for (size_t t = 0; t < 3; ++t)
    for (const int64_t n : lengths[t]) ++bins[t][static_cast<size_t>((n - 1) / width)];
  for (int64_t bin = 0; bin < n_bins; ++bin) {
    const int64_t low = bin * width + 1, high = std::min(longest, (bin + 1) * width);
    std::vector<std::string> row{low == high ? fmt::format("{}", low) : fmt::format("{} to {}", low, high)};
    for (size_t t = 0; t < 3; ++t) {
      const int64_t count = bins[t][static_cast<size_t>(bin)], all = tables[t]->size();
      row.push_back(percent(count, all));
      // Padded to its width: bars grow from the left inside a right-aligned cell.
      row.push_back(
          fmt::format("{:<14}", bar(all == 0 ? 0 : static_cast<double>(count) / static_cast<double>(all), 14)));
    }
    table.add(row);
  }
  return table.text();
}

/// Every half of the store; the first row with NaN or infinity is a UserError.
void check_images(const ImageStore& images) {
  if (images.n_rows == 0) return;
  const at::Tensor rows = at::from_blob(const_cast<uint16_t*>(images.rows), {images.n_rows, images.width}, at::kHalf);
  if (const auto bad = first_not_finite(rows))
    fail_user("{}: row {} holds NaN or infinity, expected finite values: embed that picture again", images.where,
              bad->index / images.width);
}

/// A stored hash that is not the content's is a UserError: runs would take another data set for theirs.
void check_identity(const Dataset& dataset) {
  if (!dataset.identity_is_stored()) return;
  const DatasetIdentity found = compute_identity(dataset);
  for (const auto& part : identity_parts())
    if (const auto& stored = dataset.identity().*part.member; stored != found.*part.member)
      fail_user("{}: attribute {} reads {}, its {} have {}: modified since it was made; make it again",
                dataset.path().string(), identity_attribute(part), stored, part.words, found.*part.member);
}

/// Pictures that no row refers to.
int64_t unused_images(const Dataset& dataset) {
  std::vector<bool> used(static_cast<size_t>(dataset.images().n_rows), false);
  for (const SequenceTable* table : {&dataset.train(), &dataset.test(), &dataset.labels()})
    for (const int32_t row : table->images.values) used[static_cast<size_t>(row)] = true;
  return std::count(used.begin(), used.end(), false);
}

std::string examples(const Dataset& dataset, const SequenceTable& queries, const Ragged<int32_t>& labels,
                     const std::string& split) {
  constexpr int64_t kExamples = 3;
  constexpr size_t kShownLabels = 5, kColumns = 96;
  std::string out;
  for (int64_t e = 0; e < std::min(kExamples, queries.size()); ++e) {
    const int64_t i =
        queries.size() * (2 * e + 1) / (2 * std::min(kExamples, queries.size()));  // spread over the split
    const auto pictures = queries.images[i].size();
    out += fmt::format("  {} {}: \"{}\"{}\n", split, with_commas(i), shortened(std::string(queries.text(i)), kColumns),
                       pictures == 0 ? "" : fmt::format("  [{} picture{}]", pictures, pictures == 1 ? "" : "s"));
    std::string names;
    const auto row = labels[i];
    for (size_t j = 0; j < std::min(row.size(), kShownLabels); ++j)
      names += (j ? "; " : "") + shortened(std::string(dataset.labels().text(row[j])), 40);
    if (row.size() > kShownLabels) names += fmt::format("; {} more", row.size() - kShownLabels);
    out += fmt::format("      {}\n", row.empty() ? "(no label)" : shortened(names, kColumns));
  }
  return out;
}

std::string prompts(const Dataset& dataset) {
  constexpr size_t kShownTokens = 12, kColumns = 60;
  const Prompts& all = dataset.prompts();
  std::string out;
  for (int64_t i = 0; i < all.size(); ++i) {
    const auto tokens = all.tokens[i];
    const auto shown = tokens.first(std::min(tokens.size(), kShownTokens));
    out += fmt::format("  prompt \"{}\": token{} {}{}\n", shortened(std::string(all.text(i)), kColumns),
                       tokens.size() == 1 ? "" : "s", fmt::join(shown, " "),
                       shown.size() < tokens.size() ? fmt::format(" and {} more", tokens.size() - shown.size()) : "");
  }
  if (out.empty()) out = "  no prompts: a decoder's template needs some (tools/add_prompts.py)\n";
  const int32_t bos = dataset.info().bos_token;
  if (bos >= 0) out += fmt::format("  every text begins with token {}\n", bos);
  return out;
}

}  // namespace

std::string inspect_dataset(const std::filesystem::path& path) {
  const Dataset dataset(path);
  const Hdf5Summary summary = summarise_hdf5(path);
  const DatasetInfo& info = dataset.info();
  const ImageStore& images = dataset.images();
  check_images(images);
  check_identity(dataset);

  std::string out = fmt::format("{}: data set '{}', {}\n", path.string(), info.name,
                                human_bytes(static_cast<int64_t>(std::filesystem::file_size(path))));
  out += fmt::format("  text {}, tokenizer {} (sha256 {}), vocabulary {}, at most {} tokens\n",
                     summary.attribute("text"), summary.attribute("tokenizer"), shortened(info.tokenizer_sha256, 15),
                     with_commas(info.vocabulary), info.max_length);
  if (images.n_rows > 0)
    out += fmt::format("  pictures {} x {} float16 ({}), at most {} a row, {} unused\n", with_commas(images.n_rows),
                       images.width, human_bytes(images.n_rows * images.width * 2), info.max_images,
                       with_commas(unused_images(dataset)));
  else
    out += "  no pictures\n";
  out += prompts(dataset);
  out += fmt::format("  made by {}\n\n", summary.attribute("created_by"));

  TextTable rows({"", "rows", "tokens", "mean", "median", "90%", "max", "with picture", "empty text"});
  const std::pair<const char*, const SequenceTable*> tables[] = {
      {"train", &dataset.train()}, {"test", &dataset.test()}, {"label", &dataset.labels()}};
  for (const auto& [name, table] : tables) {
    const auto texts = row_lengths(table->texts);
    auto cells =
        joined({name, with_commas(table->size()), with_commas(static_cast<int64_t>(table->tokens.values.size()))},
               spread(row_lengths(table->tokens)));
    rows.add(joined(cells, {percent(rows_with_values(row_lengths(table->images)), table->size()),
                            with_commas(table->size() - rows_with_values(texts))}));
  }
  out += rows.text() + "\n";

  const OwnedRagged train_queries = transpose(dataset.train_labels(), {0, dataset.labels().size()});
  const OwnedRagged test_queries = transpose(dataset.test_labels(), {0, dataset.labels().size()});
  TextTable labels({"", "pairs", "mean", "median", "90%", "max", "with none"});
  const auto add_counts = [&](const std::string& name, const Ragged<int32_t>& ragged) {
    const auto lengths = row_lengths(ragged);
    labels.add(joined(joined({name, with_commas(static_cast<int64_t>(ragged.values.size()))}, spread(lengths)),
                      {with_commas(ragged.size() - rows_with_values(lengths))}));
  };
  add_counts("labels a train query", dataset.train_labels());
  add_counts("labels a test query", dataset.test_labels());
  add_counts("train queries a label", train_queries.view());
  add_counts("test queries a label", test_queries.view());
  add_counts("filtered labels a test query", dataset.test_filter());
  out += labels.text() + "\n";

  if (dataset.train().size() > 0 && dataset.labels().size() > 0) {
    std::vector<double> weights;
    for (const int64_t count : row_lengths(train_queries.view()))
      weights.push_back(inverse_propensity(count, dataset.train().size(), info.propensity_a, info.propensity_b));
    const auto [least, most] = std::minmax_element(weights.begin(), weights.end());
    out += fmt::format("  inverse propensities (A {:g}, B {:g}): {:.3f} to {:.3f}, mean {:.3f}\n\n", info.propensity_a,
                       info.propensity_b, *least, *most,
                       std::accumulate(weights.begin(), weights.end(), 0.0) / static_cast<double>(weights.size()));
  }
  out += token_histogram(dataset) + "\n";
  out += examples(dataset, dataset.train(), dataset.train_labels(), "train");
  out += examples(dataset, dataset.test(), dataset.test_labels(), "test");
  out += fmt::format(
      "\n  checked: schema, offsets, token ids, label ids and their order, image rows, "
      "finite picture embeddings, prompts{}\n",
      dataset.identity_is_stored() ? ", content hashes" : "");
  return out;
}

}  // namespace vixen

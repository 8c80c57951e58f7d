// Filter, accumulate, reduce over ranks, show.
#include "eval/evaluator.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/check.hpp"
#include "base/file.hpp"
#include "base/progress.hpp"
#include "retrieval/label_counts.hpp"

namespace vixen {
namespace {

// The authors cut their ranked lists at 15 before they drop filtered labels.
constexpr int64_t kOfficialCut = 15;

NodeArray<double> weights_of(const NodeArray<int64_t>& counts, const Config& config, const Dataset& dataset,
                             Communicator& comm) {
  const double a = config.data.propensity_a >= 0 ? config.data.propensity_a : dataset.info().propensity_a;
  const double b = config.data.propensity_b >= 0 ? config.data.propensity_b : dataset.info().propensity_b;
  return NodeArray<double>::filled(counts.size(), comm, [&](std::span<double> weights) {
    for (int64_t label = 0; label < counts.size(); ++label)
      weights[static_cast<size_t>(label)] = inverse_propensity(counts[label], dataset.train().size(), a, b);
    const auto wrong = std::find_if(weights.begin(), weights.end(), [](double w) { return !std::isfinite(w); });
    if (wrong != weights.end())
      fail_user(
          "{}: propensity constants A {} and B {} give label {} no finite weight, expected B above 0 "
          "(data.propensity_b)",
          dataset.path().string(), a, b, wrong - weights.begin());
  });
}

LabelTable label_table(const Config& config, const Dataset& dataset, Communicator& comm) {
  LabelTable table;
  table.counts = label_counts(dataset, comm);
  table.weights = weights_of(table.counts, config, dataset, comm);
  table.bins = NodeArray<uint8_t>::filled(table.counts.size(), comm,
                                          [&](std::span<uint8_t> bins) { fill_label_bins(table.counts.view(), bins); });
  return table;
}

}  // namespace

NodeArray<double> label_weights(const Config& config, const Dataset& dataset, Communicator& comm) {
  return weights_of(label_counts(dataset, comm), config, dataset, comm);
}

int64_t ranking_length(const Config& config) {
  return std::max<int64_t>(config.evaluate.k, 100);
}

std::map<std::string, double> evaluate_predictions(const TopK& local_predictions, RowRange local_queries,
                                                   const Dataset& dataset, const Config& config, Communicator& comm,
                                                   std::vector<Metrics::Bin>* bins) {
  VIXEN_CHECK(local_predictions.ids.size(0) == local_queries.size(), "{} rows of predictions for {} queries",
              local_predictions.ids.size(0), local_queries.size());
  const Stage stage("metrics");
  Metrics metrics(label_table(config, dataset, comm));

  const auto ids = local_predictions.ids.cpu().contiguous();
  const int64_t k = ids.size(1);
  const int64_t kept = std::min(k, ranking_length(config));
  const bool official = config.evaluate.filter == FilterMode::kOfficial;
  for (int64_t row = 0; row < ids.size(0); ++row) {
    const std::span<const int64_t> ranked(ids.data_ptr<int64_t>() + row * k, static_cast<size_t>(k));
    const auto filter = dataset.test_filter()[local_queries.begin + row];
    metrics.add(apply_filter(ranked, filter, kept, official, kOfficialCut),
                dataset.test_labels()[local_queries.begin + row]);
  }

  // Gathered and added in rank order: the same sums on every rank.
  const auto own = metrics.sums();
  const auto parts = comm.all_gather_rows(at::tensor(own, at::kDouble).unsqueeze(0).to(comm.device()),
                                          std::vector<int64_t>(static_cast<size_t>(comm.world_size()), 1));
  const auto total = parts.cpu().sum(0).contiguous();
  metrics.set_sums({total.data_ptr<double>(), own.size()});
  if (bins != nullptr) *bins = metrics.bins();
  auto result = metrics.result();
  result["queries"] = static_cast<double>(dataset.test().size());
  result["labels"] = static_cast<double>(dataset.labels().size());
  return result;
}

std::string metrics_table(const std::map<std::string, double>& metrics) {
  const auto cell = [&](const std::string& key) {
    const auto found = metrics.find(key);
    return found == metrics.end() ? std::string(8, ' ') : fmt::format("{:>8.2f}", found->second);
  };
  std::string text =
      fmt::format("\n{:<8}{:>8}{:>8}{:>8}{:>8}{:>8}{:>8}{:>8}\n", "%", "@1", "@2", "@3", "@4", "@5", "@10", "@100");
  for (const char* name : {"P", "R", "nDCG", "PSP", "PSnDCG"}) {
    text += fmt::format("{:<8}", name);
    for (const char* k : {"@1", "@2", "@3", "@4", "@5", "@10", "@100"}) text += cell(std::string(name) + k);
    text += "\n";
  }
  text += fmt::format("MRR {}   MAP {}\n", cell("MRR"), cell("MAP"));
  return text;
}

std::string bins_table(const std::vector<Metrics::Bin>& bins) {
  if (bins.empty()) return {};
  std::string text = fmt::format("\n{:<22}{:>9}{:>12}{:>10}{:>12}\n", "label frequency", "labels", "test pairs",
                                 "R@5 %", "part of P@5");
  for (const auto& bin : bins) {
    const auto range = bin.min_count == bin.max_count ? fmt::format("{}", bin.min_count)
                                                      : fmt::format("{} - {}", bin.min_count, bin.max_count);
    text += fmt::format("{:<22}{:>9}{:>12.0f}{:>10.2f}{:>12.2f}\n", range + " queries", bin.labels, bin.pairs,
                        bin.recall_at_5, bin.precision_at_5);
  }
  return text;
}

void write_metrics_json(const std::filesystem::path& path, const std::map<std::string, double>& metrics) {
  nlohmann::json object = metrics;
  for (const char* whole : {"queries", "labels"})
    if (metrics.contains(whole)) object[whole] = static_cast<int64_t>(metrics.at(whole));
  write_text_atomically(path, object.dump(2) + "\n");
}

}  // namespace vixen

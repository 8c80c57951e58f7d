#include "retrieval/retriever.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <vector>

#include "base/check.hpp"
#include "base/lap.hpp"
#include "base/log.hpp"
#include "comm/on_root.hpp"
#include "device/transfer.hpp"
#include "retrieval/embed.hpp"
#include "search/exact_search.hpp"
#include "search/sharded_search.hpp"
#include "shard/row_shards.hpp"

namespace vixen {
namespace {

// Of the slowest rank, once the device has finished. Collective.
double seconds_until(const at::Tensor& result, const Lap& clock, Communicator& comm) {
  settle(result);
  return comm.max_host(clock.total());
}

// Labels that both lists of a query hold, and those of the second.
struct Overlap {
  int64_t common = 0;
  int64_t expected = 0;
};

Overlap overlap(const at::Tensor& found, const at::Tensor& expected) {
  Overlap sum;
  const int64_t k = expected.size(1);
  std::vector<int64_t> ids;
  for (int64_t row = 0; row < expected.size(0); ++row) {
    const int64_t* a = found.const_data_ptr<int64_t>() + row * k;
    const int64_t* b = expected.const_data_ptr<int64_t>() + row * k;
    ids.assign(a, a + k);
    std::sort(ids.begin(), ids.end());
    for (int64_t place = 0; place < k && b[place] >= 0; ++place) {
      ++sum.expected;
      if (std::binary_search(ids.begin(), ids.end(), b[place])) ++sum.common;
    }
  }
  return sum;
}

}  // namespace

PairFilter PairFilter::of(const Ragged<int32_t>& pairs, int64_t first_query) {
  PairFilter filter;
  for (int64_t row = 0; row < pairs.size(); ++row)
    filter.widest = std::max(filter.widest, static_cast<int64_t>(pairs[row].size()));
  filter.labels = [&pairs, first_query](int64_t row) { return pairs[first_query + row]; };
  return filter;
}

TopK without_filtered(const TopK& lists, const PairFilter& filter, int64_t k) {
  const at::Tensor ids = lists.ids.cpu().contiguous(), scores = lists.scores.cpu().contiguous();
  const int64_t n = ids.size(0), width = ids.size(1);
  TopK cut = empty_top_k(n, k);
  for (int64_t row = 0; row < n; ++row) {
    const int64_t* id = ids.const_data_ptr<int64_t>() + row * width;
    const float* score = scores.const_data_ptr<float>() + row * width;
    int64_t* kept_id = cut.ids.mutable_data_ptr<int64_t>() + row * k;
    float* kept_score = cut.scores.mutable_data_ptr<float>() + row * k;
    const auto dropped = filter.labels ? filter.labels(row) : std::span<const int32_t>();
    for (int64_t place = 0, kept = 0; place < width && kept < k && id[place] >= 0; ++place) {
      if (std::binary_search(dropped.begin(), dropped.end(), id[place])) continue;
      kept_id[kept] = id[place];
      kept_score[kept++] = score[place];
    }
  }
  return {cut.ids.to(lists.ids.device()), cut.scores.to(lists.scores.device())};
}

std::string RetrievalReport::text() const {
  std::string line =
      fmt::format("{} index of {} labels: {}; built in {:.1f} s, {:.1f} MB on a rank", index_kind(method).name, labels,
                  description, build_seconds, static_cast<double>(index_bytes) / 1e6);
  if (recall)
    line += fmt::format("; recall of the exact top {}: {:.2f}% ({} of {} queries compared)", k, 100 * *recall,
                        recall_queries, queries);
  return line;
}

Retriever::Retriever(ScaledRows labels, const IndexConfig& config, Communicator& comm)
    : labels_(std::move(labels)), config_(config), comm_(comm) {
  report_.method = config_.method;
  report_.labels = comm_.sum_host(labels_.size());
  const RowRange own = RowShards(report_.labels, comm_.world_size()).range(comm_.rank());
  VIXEN_CHECK(own.size() == labels_.size(), "{} labels on rank {}, its share of {} is {}", labels_.size(), comm_.rank(),
              report_.labels, own.size());
  first_label_ = own.begin;
  on_every_rank(comm_, [&] { index_ = make_index(config_, labels_, first_label_, comm_.rank() == 0); });
  report_.description = index_->description();
  report_.index_bytes = comm_.max_host(index_->bytes());
  report_.build_seconds = comm_.max_host(index_->build_seconds());
}

Retriever::Retriever(Encoder& encoder, const Dataset& dataset, at::Tensor labels, const Config& config,
                     Communicator& comm)
    : Retriever(ScaledRows(labels), config.search, comm) {
  queries_.emplace(Queries{encoder, dataset, config});
}

int64_t Retriever::planned_bytes(const IndexConfig& config, int64_t n, int64_t width, bool cpu) {
  const IndexKind& kind = index_kind(config.method);
  const int64_t compared = kind.exact ? 0 : index_kind(SearchMethod::kExact).planned_bytes(config, n, width, cpu);
  return kind.planned_bytes(config, n, width, cpu) + compared;
}

TopK Retriever::retrieve(const SequenceTable& queries, int64_t k, const Ragged<int32_t>* pairs) {
  VIXEN_CHECK(queries_.has_value(), "a retriever without an encoder");
  const auto embedded =
      embed_shard(queries_->encoder, queries, queries_->config, queries_->dataset, comm_, "encode queries");
  const RowRange own = RowShards(queries.size(), comm_.world_size()).range(comm_.rank());
  return retrieve(embedded, k, pairs == nullptr ? PairFilter{} : PairFilter::of(*pairs, own.begin));
}

void Retriever::augment() {
  VIXEN_CHECK(queries_.has_value(), "a retriever without an encoder");
  const auto& [encoder, dataset, config] = *queries_;
  at::Tensor embedded;
  if (config.augment.lambda > 0)
    embedded = embed_shard(encoder, dataset.train(), config, dataset, comm_, "encode training queries");
  augment(config.augment, std::move(embedded), AugmentSource::of(dataset, comm_));
}

void Retriever::augment(const AugmentConfig& config, at::Tensor queries, AugmentSource source) {
  augmentation_.emplace(Augmentation{config, std::move(source), nullptr});
  if (config.lambda == 0) return;
  augmentation_->neighbours = std::make_unique<Retriever>(ScaledRows(queries), config_, comm_);
  const auto& report = augmentation_->neighbours->report();
  VIXEN_CHECK(report.labels == augmentation_->source.labels_of.size(), "{} embeddings for {} training queries",
              report.labels, augmentation_->source.labels_of.size());
  report_.neighbours = report.labels;
  report_.neighbour_bytes = report.index_bytes;
}

TopK Retriever::retrieve(const at::Tensor& queries, int64_t k, const PairFilter& filter) {
  if (!augmentation_) return search_labels(queries, k, filter);
  const AugmentConfig& config = augmentation_->config;
  const TopK labels = search_labels(queries, config.labels, filter);
  return augment_lists(queries, labels, k, filter);
}

// The votes of neighbours may bring filtered labels back.
TopK Retriever::augment_lists(const at::Tensor& queries, const TopK& labels, int64_t k, const PairFilter& filter) {
  const auto on_host = [](const TopK& lists) -> TopK {
    return {lists.ids.cpu().contiguous(), lists.scores.cpu().contiguous()};
  };
  const Lap clock;
  const auto& [config, source, neighbours] = *augmentation_;
  const TopK near = neighbours ? on_host(neighbours->retrieve(queries, config.queries)) : TopK{};
  TopK best = augmented(on_host(labels), near, source, config, k + filter.widest);
  if (filter.widest > 0) best = without_filtered(best, filter, k);
  report_.neighbour_seconds = comm_.max_host(clock.total());
  if (neighbours && comm_.rank() == 0)
    spdlog::info("augmented by the {} nearest of {} training queries: {:.1f} MB on a rank, {:.1f} s for {} queries",
                 config.queries, report_.neighbours, static_cast<double>(report_.neighbour_bytes) / 1e6,
                 report_.neighbour_seconds, queries.size(0));
  return {best.ids.to(labels.ids.device()), best.scores.to(labels.scores.device())};
}

TopK Retriever::search_labels(const at::Tensor& queries, int64_t k, const PairFilter& filter) {
  comm_.barrier();
  const Lap clock;
  TopK found = search(*index_, queries, k, filter, "search");
  report_.search_seconds = seconds_until(found.scores, clock, comm_);
  report_.k = k;
  report_.recall.reset();
  const bool exact = index_kind(config_.method).exact;
  if (!exact) measure_recall(queries, k, filter);
  if (comm_.rank() == 0) spdlog::log(exact ? spdlog::level::debug : spdlog::level::info, "{}", report_.text());
  return found;
}

TopK Retriever::search(const Index& index, const at::Tensor& queries, int64_t k, const PairFilter& filter,
                       const std::string& progress_label) {
  const TopK lists = sharded_search(index, queries, k + filter.widest, config_.block_queries, comm_, progress_label);
  return filter.widest > 0 ? without_filtered(lists, filter, k) : lists;
}

// Of `queries`, whoever answers them next: an approximate method is compared with the exact one on a sample of them.
void Retriever::measure_recall(const at::Tensor& queries, int64_t k, const PairFilter& filter) {
  const auto counts = comm_.all_gather_host(queries.size(0));
  int64_t first = 0, total = 0;
  for (int rank = 0; rank < comm_.world_size(); ++rank) {
    if (rank < comm_.rank()) first += counts[static_cast<size_t>(rank)];
    total += counts[static_cast<size_t>(rank)];
  }
  const int64_t sample = std::min(total, kRecallQueries);
  std::vector<int64_t> rows;  // of this rank's queries
  for (int64_t i = 0; i < sample; ++i) {
    const int64_t row = i * total / sample - first;
    if (row >= 0 && row < queries.size(0)) rows.push_back(row);
  }
  PairFilter own{filter.widest, {}};
  if (filter.labels) own.labels = [&](int64_t row) { return filter.labels(rows[static_cast<size_t>(row)]); };
  const at::Tensor chosen = queries.index_select(0, at::tensor(rows, at::kLong).to(queries.device())).to(at::kFloat);
  const TopK found = search(*index_, chosen, k, own, {});
  const ExactIndex exact(labels_, first_label_, config_);
  const TopK expected = search(exact, chosen, k, own, "compare with the exact search");
  const Overlap own_sum = overlap(found.ids.cpu().contiguous(), expected.ids.cpu().contiguous());
  const int64_t common = comm_.sum_host(own_sum.common), all = comm_.sum_host(own_sum.expected);
  report_.k = k;
  report_.recall = all > 0 ? static_cast<double>(common) / static_cast<double>(all) : 1.0;
  report_.recall_queries = sample;
  report_.queries = total;
}

void Retriever::measure(const at::Tensor& queries, int64_t k, const PairFilter& filter) {
  if (index_kind(config_.method).exact) return;
  measure_recall(queries, k, filter);
  if (comm_.rank() == 0) spdlog::info("{}", report_.text());
}

}  // namespace vixen

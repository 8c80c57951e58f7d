#include "mining/miner.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <limits>
#include <mutex>
#include <vector>

#include "base/check.hpp"
#include "base/progress.hpp"
#include "device/transfer.hpp"
#include "search/exact_search.hpp"

namespace vixen {
namespace {

constexpr int64_t kPairBytes = int64_t{64}
                               << 20;  // for the labels of a part of the pairs of queries and relevant labels
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Most filtered labels of a query of any rank. Collective.
int64_t widest_filter(const MiningQueries& queries, TableRows rows, int64_t n, Communicator& comm) {
  if (!queries.filter) return 0;
  int64_t widest = 0;
  for (int64_t i = 0; i < n; ++i) widest = std::max(widest, std::ssize((*queries.filter)[rows[i]]));
  return comm.max_host(widest);
}

// Of rows that a search numbers from 0.
PairFilter filter_of(const MiningQueries& queries, int64_t widest, TableRows rows) {
  PairFilter filter{widest, {}};
  if (queries.filter) filter.labels = [&queries, rows](int64_t i) { return (*queries.filter)[rows[i]]; };
  return filter;
}

}  // namespace

Miner::Miner(const Config& config, at::Tensor labels, const SequenceTable& label_texts, Communicator& comm,
             MinedDetail detail)
    : config_(config),
      label_texts_(&label_texts),
      comm_(comm),
      detail_(detail),
      labels_(comm, label_texts.size(), std::move(labels)),
      retriever_(labels_.local(), config_.search, comm) {}

int64_t Miner::planned_bytes(const Config& config, int64_t own_labels, int64_t width, bool cpu) {
  constexpr int64_t kFloat = sizeof(float), kIndex = sizeof(int64_t);
  const int64_t lists = 3 * kBlockQueries * config.mining.depth * (kIndex + kFloat);  // found, merged, kept
  return own_labels * width * kFloat + Retriever::planned_bytes(config.search, own_labels, width, cpu) +
         kBlockQueries * width * kFloat + lists + (has_margin(config.mining) ? 2 * kPairBytes : 0);
}

// float32 [rows] host: the lowest score of a relevant label of each query; infinity for one without any. Collective.
at::Tensor Miner::weakest_positives(const MiningQueries& queries, const at::Tensor& embeddings, TableRows rows) {
  const int64_t n = embeddings.size(0);
  const auto& relevant = queries.positives ? queries.positives->of : queries.relevant;
  const auto& labels = queries.positives ? queries.positives->embeddings : labels_;
  std::vector<int64_t> query, label;
  for (int64_t row = 0; row < n; ++row)
    for (const int32_t id : relevant[rows[row]]) {
      query.push_back(row);
      label.push_back(id);
    }
  at::Tensor weakest = at::full({n}, kInfinity, at::kFloat);
  auto* lowest = weakest.mutable_data_ptr<float>();
  // Pairs in parts, for a query may have thousands; as many parts on every rank.
  const int64_t most = std::max<int64_t>(1, kPairBytes / (labels.width() * int64_t{sizeof(float)}));
  const auto pairs = static_cast<int64_t>(query.size());
  const int64_t parts = comm_.max_host((pairs + most - 1) / most);
  for (int64_t part = 0; part < parts; ++part) {
    const int64_t begin = std::min(pairs, part * most), count = std::min(most, pairs - begin);
    const auto of = [&](const std::vector<int64_t>& ids) {
      return at::tensor(at::IntArrayRef(ids.data() + begin, static_cast<size_t>(count)), at::kLong);
    };
    const auto positives = labels.gather(of(label));
    if (count == 0) continue;
    const auto scores = canonical_dot(embeddings.index_select(0, to_device(of(query), embeddings.device())), positives)
                            .to(at::kCPU)
                            .contiguous();
    const auto* score = scores.const_data_ptr<float>();
    for (int64_t i = 0; i < count; ++i) {
      float& least = lowest[query[static_cast<size_t>(begin + i)]];
      least = std::min(least, score[i]);
    }
  }
  return weakest;
}

// The rules, for one block of lists as the search gave them.
MinedBlock Miner::negatives_of(const MiningQueries& queries, const TopK& lists, const at::Tensor& weakest,
                               TableRows rows, MinedCounts& counts) const {
  const auto& mining = config_.mining;
  const auto found = lists.ids.to(at::kCPU).contiguous(), scores = lists.scores.to(at::kCPU).contiguous();
  const int64_t count = found.size(0), width = found.size(1), depth = mining.depth;
  const bool details = detail_ == MinedDetail::kPlacesAndDrops;
  MinedBlock block{
      rows, at::full({count, depth}, -1, at::kInt), at::full({count, depth}, -kInfinity, at::kFloat), {}, {}};
  if (details) {
    block.places = at::zeros({count, depth}, at::kInt);
    block.dropped = at::empty({count, 4}, at::kInt);
  }
  const auto* id = found.const_data_ptr<int64_t>();
  const auto* score = scores.const_data_ptr<float>();
  const float* lowest = weakest.defined() ? weakest.const_data_ptr<float>() : nullptr;
  auto* kept_ids = block.ids.mutable_data_ptr<int32_t>();
  auto* kept_scores = block.scores.mutable_data_ptr<float>();
  auto* places = details ? block.places.mutable_data_ptr<int32_t>() : nullptr;
  auto* dropped = details ? block.dropped.mutable_data_ptr<int32_t>() : nullptr;
  const SameTextRule text(queries.table, *label_texts_);
  std::mutex adding;
  at::parallel_for(0, count, 64, [&](int64_t from, int64_t to) {
    MinedCounts own;
    for (int64_t row = from; row < to; ++row) {
      const auto of = [&](auto* values, int64_t stride) {
        return std::span(values + row * stride, static_cast<size_t>(width));
      };
      MinedCounts one;
      keep_negatives(of(id, width), of(score, width), rows[row], queries.relevant[rows[row]],
                     lowest == nullptr ? kInfinity : score_limit(mining, lowest[row]), mining.skip_first,
                     mining.same_text == SameText::kDrop ? &text : nullptr,
                     {of(kept_ids, depth), of(kept_scores, depth), details ? of(places, depth) : std::span<int32_t>()},
                     one);
      if (details)
        for (int rule = 0; const int64_t labels : {one.relevant, one.skipped, one.same_text, one.margin})
          dropped[row * 4 + rule++] = static_cast<int32_t>(labels);
      own.add(one);
    }
    const std::lock_guard lock(adding);
    counts.add(own);
  });
  return block;
}

std::optional<MinedCounts> Miner::mine(const MiningQueries& queries, const at::Tensor& embeddings, TableRows rows,
                                       const std::function<void(const MinedBlock&)>& take,
                                       const std::function<bool()>& stop, const std::string& progress_label) {
  const int64_t depth = config_.mining.depth, n = embeddings.size(0), most = comm_.max_host(n);
  const int64_t widest = widest_filter(queries, rows, n, comm_);
  MinedCounts counts;
  Progress progress(progress_label, "queries", most, comm_.rank() == 0 && !progress_label.empty());
  for (int64_t begin = 0; begin < most; begin += kBlockQueries) {
    if (stop && stop()) return std::nullopt;
    const int64_t count = std::clamp<int64_t>(n - begin, 0, kBlockQueries);
    const auto some = rows.from(begin);
    const auto asked = embeddings.narrow(0, std::min(begin, n), count).to(at::kFloat).contiguous();
    const TopK lists = retriever_.find(asked, depth, filter_of(queries, widest, some));
    const auto weakest = has_margin(config_.mining) ? weakest_positives(queries, asked, some) : at::Tensor();
    if (count > 0) take(negatives_of(queries, lists, weakest, some, counts));  // who has no rows left searches on
    progress.advance(std::min(kBlockQueries, most - begin));
  }
  return counts.over(comm_);
}

void Miner::measure(const MiningQueries& queries, const at::Tensor& embeddings, TableRows rows) {
  const int64_t widest = widest_filter(queries, rows, embeddings.size(0), comm_);
  retriever_.measure(embeddings, config_.mining.depth, filter_of(queries, widest, rows));
}

}  // namespace vixen

#include "mining/mined_lists.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <string>
#include <utility>

#include "base/check.hpp"
#include "base/random.hpp"

namespace vixen {

MinedLists::MinedLists(const Config& config, int64_t n_queries, Communicator& comm)
    : mining_(config.mining),
      seed_(config.train.seed),
      temperature_(config.loss.temperature),
      comm_(&comm),
      shards_(n_queries, comm.world_size()) {
  const int64_t own = shards_.range(comm.rank()).size();
  ids_ = at::full({own, mining_.depth}, -1, at::kInt);
  if (mining_.draw == MiningDraw::kScore) scores_ = at::zeros({own, mining_.depth}, at::kHalf);
}

int64_t MinedLists::bytes(const MiningConfig& config, int64_t own_queries) {
  if (config.columns == 0) return 0;
  const int64_t place = config.draw == MiningDraw::kScore ? 4 + 2 : 4;
  return own_queries * config.depth * place;
}

int64_t MinedLists::offers_a_query(const MiningConfig& config, int64_t batch_queries) {
  if (batch_queries == 0) return 0;
  return std::min(config.depth, kOffers * ((config.columns + batch_queries - 1) / batch_queries));
}

int64_t MinedLists::offer_bytes(const MiningConfig& config, int64_t batch_queries) {
  return offers_a_query(config, batch_queries) * static_cast<int64_t>(sizeof(int32_t));
}

void MinedLists::assign(const MinedBlock& block) {
  const int64_t own = shards_.range(comm_->rank()).begin, rows = block.ids.size(0);
  const auto of_block = [&](const at::Tensor& lists) {
    return lists.slice(0, block.queries.first - own, block.queries[rows - 1] - own + 1, block.queries.stride);
  };
  of_block(ids_).copy_(block.ids);
  if (scores_.defined())  // 0 behind the end of a list: a checkpoint holds finite values
    of_block(scores_).copy_(block.scores.masked_fill(block.ids < 0, 0));
}

// The labels that a query of this rank offers at a step, best first, -1 behind them.
void MinedLists::draw(uint64_t step, int64_t query, std::span<int32_t> drawn) const {
  const int64_t row = query - shards_.range(comm_->rank()).begin, depth = mining_.depth;
  const auto* id = ids_.const_data_ptr<int32_t>() + row * depth;
  const auto length = std::find(id, id + depth, -1) - id;
  const auto count = std::min(length, std::ssize(drawn));
  if (mining_.draw == MiningDraw::kHardest) {
    std::copy_n(id, count, drawn.begin());
  } else {
    // Exponential races (Gumbel's trick): the first `count` of a draw without replacement, by equal weights or by
    // exp(score / temperature).
    const auto* score = scores_.defined() ? scores_.const_data_ptr<at::Half>() + row * depth : nullptr;
    std::vector<std::pair<double, int64_t>> race;
    for (int64_t place = 0; place < length; ++place) {
      const double u = random_uniform(seed_, RandomStream::kMining, step,
                                      static_cast<uint64_t>(query) << 16 | static_cast<uint64_t>(place));
      const double weight = score == nullptr ? 0 : static_cast<double>(score[place]) / temperature_;
      race.emplace_back(std::log(-std::log1p(-u)) - weight, place);  // u = 0 gives -infinity: first
    }
    std::partial_sort(race.begin(), race.begin() + count, race.end());
    for (int64_t i = 0; i < count; ++i) drawn[static_cast<size_t>(i)] = id[race[static_cast<size_t>(i)].second];
  }
  std::fill(drawn.begin() + count, drawn.end(), -1);
}

std::vector<int64_t> MinedLists::offers(uint64_t step, std::span<const int64_t> query_rows) const {
  const auto b = std::ssize(query_rows);
  const auto width = static_cast<size_t>(offers_a_query(mining_, b));
  const RowRange own = shards_.range(comm_->rank());
  // Every rank sends what its queries of the batch offer, in the batch's order: who owns a row is known to all.
  std::vector<int32_t> sent;
  for (const int64_t query : query_rows) {
    if (!own.contains(query)) continue;
    sent.resize(sent.size() + width);
    draw(step, query, std::span(sent).last(width));
  }
  const auto received =
      comm_->all_gather_host(std::string(reinterpret_cast<const char*>(sent.data()), sent.size() * sizeof(int32_t)));
  std::vector<size_t> taken(received.size(), 0);  // bytes read of each rank's message
  std::vector<int32_t> all(static_cast<size_t>(b) * width);
  for (int64_t i = 0; i < b; ++i) {
    const auto owner = static_cast<size_t>(shards_.owner(query_rows[static_cast<size_t>(i)]));
    VIXEN_CHECK(taken[owner] + width * sizeof(int32_t) <= received[owner].size(), "rank {} sent too few lists", owner);
    std::memcpy(all.data() + static_cast<size_t>(i) * width, received[owner].data() + taken[owner],
                width * sizeof(int32_t));
    taken[owner] += width * sizeof(int32_t);
  }
  // Where there is room for some queries only, which they are changes from step to step.
  std::vector<int64_t> turn(static_cast<size_t>(b));
  std::iota(turn.begin(), turn.end(), 0);
  constexpr uint64_t kTurns = uint64_t{1} << 63;  // apart from the numbers of queries
  for (size_t i = turn.size(); i > 1; --i)
    std::swap(turn[i - 1], turn[random_below(seed_, RandomStream::kMining, step, kTurns | (i - 1), i)]);
  std::vector<int64_t> offered;
  for (size_t place = 0; place < width; ++place)
    for (const int64_t i : turn) {
      const int32_t label = all[static_cast<size_t>(i) * width + place];
      if (label >= 0) offered.push_back(label);
    }
  return offered;
}

}  // namespace vixen

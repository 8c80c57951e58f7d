#include "train/overlapped_mining.hpp"

#include <ATen/ATen.h>

#include <utility>

#include "base/check.hpp"
#include "base/lap.hpp"

namespace vixen {

MiningProgress MiningProgress::begin(const TrainingParts& parts, int64_t begun_at, at::Tensor labels) {
  auto& comm = *parts.comm;
  const int64_t n_labels = parts.dataset.labels().size();
  return {begun_at,
          labels.defined() ? ShardedTable(comm, n_labels, std::move(labels))
                           : ShardedTable(comm, n_labels, parts.encoder->width()),
          MinedLists(parts.config, parts.dataset.train().size(), comm)};
}

int64_t MiningProgress::checkpoint_bytes(const TrainingParts& parts) {
  const auto& mining = parts.config.mining;
  if (mining.columns == 0 || mining.overlap == 0) return 0;
  const int64_t labels = parts.dataset.labels().size() * parts.encoder->width() * static_cast<int64_t>(sizeof(float));
  return labels + MinedLists::bytes(mining, parts.dataset.train().size());
}

void MiningProgress::save(nlohmann::json& scalars) const {
  auto& pass = scalars["mining_pass"] = {{"begun_at", begun_at}, {"seconds", seconds}};
  for (const auto& field : kMinedCountFields) pass[field.name] = counts.*field.count;
}

std::optional<MiningProgress> MiningProgress::restore(const nlohmann::json& scalars, const TrainingParts& parts) {
  if (!scalars.contains("mining_pass")) return std::nullopt;
  const auto& pass = scalars.at("mining_pass");
  auto progress = begin(parts, pass.at("begun_at").get<int64_t>());
  pass.at("seconds").get_to(progress.seconds);
  for (const auto& field : kMinedCountFields) pass.at(field.name).get_to(progress.counts.*field.count);
  return progress;
}

void MiningProgress::add_tables(CheckpointState& state) {
  state.tables["mining.labels"] = {labels.shards(), labels.local()};
  state.tables["mining.lists"] = {lists.shards(), lists.ids()};
  if (lists.scores().defined()) state.tables["mining.scores"] = {lists.shards(), lists.scores()};
}

OverlappedMining::OverlappedMining(TrainingParts& parts, MiningProgress progress)
    : parts_(parts),
      progress_(std::move(progress)),
      miner_(parts.config, progress_.labels.local(), parts.dataset.labels(), *parts.comm) {}

int64_t OverlappedMining::ends_at() const {
  return progress_.begun_at + parts_.config.mining.overlap;
}

void OverlappedMining::advance(int64_t steps_done) {
  const int64_t overlap = parts_.config.mining.overlap, share = steps_done - progress_.begun_at;
  VIXEN_CHECK(share >= 0 && share < overlap, "share {} of a pass over {} steps", share, overlap);
  const Lap lap;
  const auto own = parts_.bank->local_range();
  const int64_t past = own.begin % overlap, first = (share - past + overlap) % overlap;  // of this rank's rows
  const int64_t count = own.size() > first ? (own.size() - first + overlap - 1) / overlap : 0;
  const TableRows rows{own.begin + first, overlap};
  const auto embeddings =
      count == 0 ? parts_.bank->local_on_device(0, 0)
                 : parts_.bank->local_on_device(first, (count - 1) * overlap + 1).slice(0, 0, std::nullopt, overlap);
  const MiningQueries queries{parts_.dataset.train(), {parts_.dataset.train_labels()}};
  if (share == 0) miner_.measure(queries, embeddings, rows);
  progress_.counts.add(*miner_.mine(
      queries, embeddings, rows, [&](const MinedBlock& block) { progress_.lists.assign(block); }, {},
      /*progress_label=*/""));
  progress_.seconds += lap.total();
}

void OverlappedMining::finish() {
  *parts_.mined = std::move(progress_.lists);
}

}  // namespace vixen

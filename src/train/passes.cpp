// Embeds tables, block by block.
#include "train/passes.hpp"

#include <ATen/ATen.h>

#include <algorithm>

#include "base/lap.hpp"
#include "base/log.hpp"
#include "kernels/pooling.hpp"
#include "model/encode_pass.hpp"
#include "prototypes/centroids.hpp"

namespace vixen {
namespace {

EncodePassOptions encode_options(const TrainingParts& parts, const std::string& label) {
  EncodePassOptions options;
  options.pack = parts.pack;
  options.device = parts.comm->device();
  options.prefetch = parts.config.data.prefetch;
  if (parts.comm->rank() == 0) options.progress_label = label;
  return options;
}

at::Tensor encode_labels(TrainingParts& parts, const std::string& label) {
  const auto& labels = parts.dataset.labels();
  const auto range = RowShards(labels.size(), parts.comm->world_size()).range(parts.comm->rank());
  return encode_rows(*parts.encoder, labels, parts.dataset.images(), range, encode_options(parts, label));
}

// n(h) of rows, block by block, into `into`, which may be the rows themselves.
void write_unit_rows(const at::Tensor& rows, at::Tensor into) {
  for (int64_t first = 0; first < rows.size(0); first += RowShards::kBlockRows) {
    const int64_t count = std::min(RowShards::kBlockRows, rows.size(0) - first);
    into.narrow(0, first, count).copy_(normalize_rows(rows.narrow(0, first, count)).y);
  }
}

at::Tensor unit_rows(at::Tensor rows) {
  write_unit_rows(rows, rows);
  return rows;
}

void refresh_bank(TrainingParts& parts, const std::string& label) {
  auto& bank = *parts.bank;
  const auto range = bank.local_range();
  encode_blocks(*parts.encoder, parts.dataset.train(), parts.dataset.images(), range, encode_options(parts, label),
                [&](int64_t first, const at::Tensor& h) {
                  bank.local().narrow(0, first - range.begin, h.size(0)).copy_(normalize_rows(h).y);
                });
}

void centroids_from_bank(TrainingParts& parts) {
  update_centroids(parts.prototypes->centroids(), *parts.bank, parts.queries_of_label.view(), *parts.comm);
}

}  // namespace

FirstPassSeconds first_passes(TrainingParts& parts) {
  FirstPassSeconds seconds;
  if (!parts.prototypes) return seconds;
  const bool is_root = parts.comm->rank() == 0;
  Lap lap;
  auto u = encode_labels(parts, "first pass: labels");
  lap(seconds.labels);
  parts.prototypes->initialise(std::move(u), is_root);
  parts.store.refresh_compute();
  lap(seconds.clusters);
  refresh_bank(parts, "first pass: queries");
  lap(seconds.queries);
  centroids_from_bank(parts);
  lap(seconds.centroids);
  if (is_root)
    spdlog::info("first passes: labels {:.1f} s, free vectors {:.1f} s, queries {:.1f} s, centroids {:.1f} s",
                 seconds.labels, seconds.clusters, seconds.queries, seconds.centroids);
  return seconds;
}

void last_pass(TrainingParts& parts) {
  if (!parts.prototypes && !parts.config.run.query_bank) return;
  refresh_bank(parts, "last pass: queries");
  if (parts.prototypes) centroids_from_bank(parts);
}

at::Tensor label_representations(TrainingParts& parts) {
  auto labels = encode_labels(parts, "encode labels");
  return parts.prototypes ? parts.prototypes->representations(std::move(labels)) : unit_rows(std::move(labels));
}

at::Tensor labels_to_mine(TrainingParts& parts, bool fill_bank) {
  auto& bank = parts.label_bank;
  const bool prototypes = parts.config.mining.against == MiningAgainst::kPrototypes;
  at::Tensor labels;
  if (bank && !fill_bank) {
    labels = bank->local_on_device(0, bank->local_range().size()).to(at::kFloat);
    if (!prototypes) labels = unit_rows(std::move(labels));  // float16 has rounded them
  } else {
    labels = encode_labels(parts, "mining: encode labels");
    if (!prototypes) labels = unit_rows(std::move(labels));
    if (bank && prototypes) write_unit_rows(labels, bank->local());
    if (bank && !prototypes) bank->local().copy_(labels);
  }
  return prototypes ? parts.prototypes->representations(std::move(labels)) : labels;
}

std::optional<MinedCounts> mine_negatives(TrainingParts& parts, bool fill_bank, const std::function<bool()>& stop) {
  Miner miner(parts.config, labels_to_mine(parts, fill_bank), parts.dataset.labels(), *parts.comm);
  const MiningQueries queries{parts.dataset.train(), {parts.dataset.train_labels()}};
  const auto own = parts.bank->local_range();
  const auto embeddings = parts.bank->local_on_device(0, own.size());
  miner.measure(queries, embeddings, own.begin);
  return miner.mine(
      queries, embeddings, own.begin, [&](const MinedBlock& block) { parts.mined->assign(block); }, stop);
}

}  // namespace vixen

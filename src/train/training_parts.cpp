// Makes the parts of a run in the order in which they need one another.
#include "train/training_parts.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "base/check.hpp"
#include "device/device.hpp"
#include "model/adapters/adapter_files.hpp"
#include "model/make_encoder.hpp"
#include "model/pack_options.hpp"
#include "model/weight_fingerprint.hpp"

namespace vixen {
namespace {

struct Budget {
  int64_t bytes = 0;  // 0: none
  bool of_device = false;
};

// train.memory_gb, held against what is free on every rank's device before anything is allocated; without it the least
// of that. Collective.
Budget memory_budget(const TrainConfig& train, Communicator& comm) {
  const auto asked = static_cast<int64_t>(train.memory_gb * 1e9);
  const auto free = free_bytes(comm.device());
  if (!free) return {asked, false};
  const auto all = comm.all_gather_host(*free);
  const auto least = std::min_element(all.begin(), all.end());
  if (asked == 0) return {*least, true};
  if (asked > *least)
    fail_user("train.memory_gb is {:g}, but {:.2f} GB are free on the device of rank {}: expected at most that",
              train.memory_gb, static_cast<double>(*least) / 1e9, least - all.begin());
  return {asked, false};
}

// One rank reads the lengths of all rows.
DataShape agreed_data_shape(const Dataset& dataset, const PackOptions& pack, Communicator& comm) {
  static_assert(std::is_trivially_copyable_v<DataShape>);
  DataShape shape;
  if (comm.rank() == 0) shape = data_shape(dataset, pack);
  const auto bytes = comm.broadcast_host({reinterpret_cast<const char*>(&shape), sizeof(shape)}, 0);
  std::memcpy(&shape, bytes.data(), sizeof(shape));
  return shape;
}

int64_t most_ranks_a_node(const Communicator& comm) {
  int64_t most = 0;
  for (const auto& ranks : ranks_by_node(comm)) most = std::max(most, std::ssize(ranks));
  return most;
}

}  // namespace

TrainingParts::TrainingParts(const Config& asked, const Dataset& data, NodeArray<double> inverse_propensity,
                             std::shared_ptr<Communicator> communicator)
    : config(asked),
      dataset(data),
      messages(asked.run.count_messages ? std::make_shared<CountingCommunicator>(communicator) : nullptr),
      comm(messages ? messages : std::move(communicator)) {
  config.lora = with_adapter_settings(asked.lora);
  const auto& train = config.train;
  if (train.batch_size < comm->world_size())
    fail_user("train.batch_size is {}, but there are {} ranks: every rank needs a row, so use at least {}",
              train.batch_size, comm->world_size(), comm->world_size());
  objective = make_objective(config);
  sampler = make_sampler(config, dataset.train().size());

  if (config.mining.columns > 0 && config.mining.against == MiningAgainst::kPrototypes && !objective->uses_prototypes())
    fail_user("mining.against is prototypes, but train.method {} has none: expected labels", name_of(train.method));

  encoder = make_encoder({config.model, config.lora, image_width(config, dataset)}, store);
  pack = pack_options(config, *encoder, dataset);
  check_fits(*encoder, dataset, pack);
  encoder->files().check();
  if (objective->uses_prototypes())
    prototypes = std::make_unique<LabelPrototypes>(config, dataset.labels().size(), encoder->width(), store, *comm);

  const auto shape = memory_shape(config, agreed_data_shape(dataset, pack, *comm), *encoder, store, comm->world_size(),
                                  most_ranks_a_node(*comm), comm->device().is_cpu());
  const auto budget = memory_budget(train, *comm);
  memory = plan_memory(shape, *encoder, budget.bytes, budget.of_device);
  encoder->set_recompute_layers(memory.choice.recompute_layers);
  if (prototypes) prototypes->allocate(memory.choice.tables);
  store.allocate(comm->device(), config.model.compute == Compute::kBfloat16 ? at::kBFloat16 : at::kFloat);
  base_fingerprint = weight_fingerprint(config.model.path);
  if (!config.lora.adapter.empty()) adapter_fingerprint = weight_fingerprint(config.lora.adapter);
  encoder->files().load(train.seed);

  bank =
      std::make_unique<ShardedTable>(*comm, dataset.train().size(), encoder->width(), at::kHalf, memory.choice.tables);
  if (config.mining.columns > 0) {
    mined = std::make_unique<MinedLists>(config, dataset.train().size(), *comm);
    if (config.mining.labels == MiningLabels::kBank)
      label_bank = std::make_unique<ShardedTable>(*comm, dataset.labels().size(), encoder->width(), at::kHalf,
                                                  memory.choice.tables);
  }
  optimiser = std::make_unique<AdamW>(train, store, prototypes ? prototypes->free_vectors().local() : at::Tensor());
  step = std::make_unique<TrainStep>(StepParts{.config = config,
                                               .store = store,
                                               .encoder = *encoder,
                                               .objective = *objective,
                                               .way = memory.objective,
                                               .prototypes = prototypes.get(),
                                               .bank = *bank,
                                               .label_bank = label_bank.get(),
                                               .optimiser = *optimiser,
                                               .comm = *comm,
                                               .columns = shape.columns,
                                               .chunks = memory.choice.chunks});
  planner = std::make_unique<BatchPlanner>(dataset, std::move(inverse_propensity), train.batch_size, train.seed,
                                           objective->draws());
  queries_of_label =
      transpose(dataset.train_labels(), RowShards(dataset.labels().size(), comm->world_size()).range(comm->rank()));
}

NodeArray<int64_t> epoch_order(const TrainingParts& parts, uint64_t epoch) {
  return NodeArray<int64_t>::filled(parts.dataset.train().size(), *parts.comm,
                                    [&](std::span<int64_t> order) { parts.sampler->fill_order(epoch, order); });
}

}  // namespace vixen

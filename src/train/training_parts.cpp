// Makes the parts of a run in the order in which they need one another.
#include "train/training_parts.hpp"

#include <ATen/ATen.h>

#include "base/check.hpp"
#include "model/adapters/adapter_files.hpp"
#include "model/make_encoder.hpp"
#include "model/pack_options.hpp"
#include "model/weight_fingerprint.hpp"

namespace vixen {

TrainingParts::TrainingParts(const Config& asked, const Dataset& data, std::vector<double> inverse_propensity,
                             std::shared_ptr<Communicator> communicator)
    : config(asked), dataset(data), comm(std::move(communicator)) {
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

  const auto shape =
      memory_shape(config, data_shape(dataset, pack), *encoder, store, comm->world_size(), comm->device().is_cpu());
  memory = plan_memory(shape, *encoder, static_cast<int64_t>(train.memory_gb * 1e9));
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
  queries_of_label = transpose(dataset.train_labels(), dataset.labels().size());
}

}  // namespace vixen

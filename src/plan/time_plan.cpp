// The sum over parts.
#include "plan/time_plan.hpp"

#include <algorithm>
#include <cmath>

#include "base/check.hpp"
#include "objective/device_kernels.hpp"
#include "objective/partial_objective.hpp"
#include "prototypes/label_prototypes.hpp"
#include "sampling/sampler.hpp"

namespace vixen {
namespace {

// What picked rows of tables in host memory reach on their way to a GPU: half of what PCIe 4 copies do.
constexpr double kHostTableRate = 12e9;

double sum_of(const std::vector<TimePart>& parts) {
  double seconds = 0;
  for (const auto& part : parts) seconds += part.seconds;
  return seconds;
}

double as_double(int64_t value) {
  return static_cast<double>(value);
}

// Of a forward pass. What of attention is not of the matrix units is taken from the products.
Work forward_work(const EncoderCosts& costs, const PassTraffic& traffic, const BatchShape& batch, int64_t layers) {
  const double attention = as_double(layers) * traffic.core_flops_a_layer;
  return {costs.forward_flops(batch.positions, batch.sum_squared_lengths) - attention, as_double(traffic.forward),
          attention};
}

// Seconds to encode rows of one side, all ranks together.
double encode_seconds(const MemoryShape& shape, const LayeredEncoder& encoder, int64_t rows,
                      const LengthStatistics& lengths, const DeviceRates& device) {
  const double n = as_double(rows);
  const BatchShape all{.positions = static_cast<int64_t>(n * lengths.mean),
                       .sequences = rows,
                       .images = static_cast<int64_t>(n * lengths.mean_images),
                       .sum_squared_lengths = static_cast<int64_t>(n * lengths.mean_square),
                       .longest = lengths.longest};
  const auto costs = encoder.costs();
  const PassTraffic traffic = costs.traffic(all, shape.cpu, /*training=*/false);
  return forward_work(costs, traffic, all, encoder.n_layers()).seconds(device) / as_double(shape.world_size);
}

// Seconds of a rank's part of the objective.
double objective_seconds(const MemoryShape& shape, const Objective& objective, bool sharded,
                         const DeviceRates& device) {
  const int64_t b = shape.config.train.batch_size, m = shape.columns;
  const bool fused = !shape.cpu && objective_is_fused(shape.config.loss);
  if (!sharded)
    return objective.flops(b, m, shape.width) / device.float_flops +
           objective.traffic_bytes(b, m, fused) / device.memory_rate;
  const auto side = [&](Side of, int64_t rows, int64_t columns) {
    return as_double(rows) / as_double(shape.world_size) *
           (objective.row_flops(of, columns, shape.width) / device.float_flops +
            objective.row_traffic_bytes(of, columns, fused) / device.memory_rate);
  };
  return side(Side::kQueries, b, m) + side(Side::kColumns, m, b);
}

}  // namespace

EncoderWork encoder_work(const LayeredEncoder& encoder, const BatchShape& batch, const MemoryChoice& choice, bool cpu) {
  const auto costs = encoder.costs();
  const PassTraffic traffic = costs.traffic(batch, cpu, /*training=*/true);
  const Work forward = forward_work(costs, traffic, batch, encoder.n_layers());
  const double layers = as_double(choice.recompute_layers), cached = choice.chunks > 1 ? 1 : 0,
               again = layers / std::max(1.0, as_double(encoder.n_layers())) + cached;
  // The backward's products count attention twice.
  return {.forward = forward,
          .repeated = {forward.flops * again, layers * as_double(traffic.again_a_layer) + cached * forward.bytes,
                       forward.core_flops * again},
          .backward = {costs.backward_flops(batch.positions, batch.sum_squared_lengths) - 2 * forward.core_flops,
                       as_double(traffic.backward), KernelTraffic::kAttentionBackward * forward.core_flops}};
}

double TimePlan::step_seconds() const {
  return sum_of(step);
}

double TimePlan::run_seconds() const {
  return sum_of(run);
}

TimePlan plan_time(const MemoryShape& shape, const LayeredEncoder& encoder, const MemoryChoice& chosen,
                   const DeviceRates& device, const std::optional<std::vector<TimePart>>& waits) {
  const auto& config = shape.config;
  const auto& train = config.train;
  const auto objective = make_objective(config);
  const auto sampler = make_sampler(config, shape.data.queries);
  const bool prime = objective->uses_prototypes();
  const double w = as_double(shape.world_size), d = as_double(shape.width);
  const double rows = as_double(train.batch_size) / w, labels_a_rank = as_double(shape.columns) / w;
  const auto batch = mean_batch(shape.data, shape.rank_queries, shape.rank_labels);

  TimePlan time;
  time.steps_per_epoch = (shape.data.queries + train.batch_size - 1) / train.batch_size;
  time.encoder = encoder_work(encoder, batch, chosen, shape.cpu);

  const bool sharded = objective_way(config, *objective, shape.columns) == ObjectiveWay::kSharded;
  const double loss = objective_seconds(shape, *objective, sharded, device);
  const double prototype_flops =
      prime ? 3 * PrototypeNetwork::forward_flops(config.prototype, shape.width, labels_a_rank) : 0;
  const int64_t free_elements =
      prime ? LabelPrototypes::free_vector_elements(config, shape.data.labels, shape.width) : 0;
  // AdamW reads value, gradient and both moments and writes three of them; gradients are zeroed, and read for the norm.
  const double update = (as_double(shape.trained_elements) + as_double(free_elements) / w) * 4 * 9;
  // Centroids of the batch come up in float32, its queries go down in float16.
  const bool on_host = chosen.tables == TablePlacement::kHost && !shape.cpu;
  const double host_bytes = on_host ? (labels_a_rank * (prime ? 4 : 0) + rows * 2) * d : 0;
  const double gradient_bytes = shape.config.comm.gradients == GradientSums::kBf16 ? 2 : 4;
  const double ring = (w - 1) / w / device.reduce_rate;  // all-gather; an all-reduce travels twice
  const double embeddings = (as_double(train.batch_size) + as_double(shape.columns) * (prime ? 2 : 1)) * d * 4 * ring;
  time.compute = {.forward = time.encoder.forward.seconds(device),
                  .repeated = time.encoder.repeated.seconds(device),
                  .backward = time.encoder.backward.seconds(device),
                  .objective = prototype_flops / device.rate() + loss,
                  .optimiser = (update + as_double(shape.copy_bytes) * 3) / device.memory_rate,
                  .host_tables = host_bytes / kHostTableRate};
  time.step = {{"forward", time.compute.forward},
               {"forward again (recomputation, gradient caching)", time.compute.repeated},
               {"backward", time.compute.backward},
               {"prototypes and objective", time.compute.objective}};
  const std::vector<TimePart> rings = {
      {"all-gather of embeddings", embeddings},
      {"reduce-scatter of their gradients", sharded ? embeddings : 0},
      {"all-reduce of gradients", 2 * as_double(shape.trained_elements) * gradient_bytes * ring}};
  const auto& between = waits ? *waits : rings;
  time.step.insert(time.step.end(), between.begin(), between.end());
  time.step.push_back({"optimiser", time.compute.optimiser});
  time.step.push_back({"rows of the tables in host memory", time.compute.host_tables});

  const double steps = as_double(train.epochs * time.steps_per_epoch);
  const double queries = encode_seconds(shape, encoder, shape.data.queries, shape.data.query, device);
  const double labels = encode_seconds(shape, encoder, shape.data.labels, shape.data.label, device);
  const double test = encode_seconds(shape, encoder, shape.data.test_queries, shape.data.query, device);
  const double search =
      2 * as_double(shape.data.test_queries) * as_double(shape.data.labels) * d / device.search_flops / w;
  const int64_t evaluations =
      1 + (train.evaluate_every_epochs > 0 ? (train.epochs - 1) / train.evaluate_every_epochs : 0);
  const int64_t clusterings = sampler->updates();
  const double cluster = sampler->update_traffic_bytes(shape.data.queries, shape.width) / w / device.memory_rate;
  time.run = {
      {fmt::format("{:.0f} steps", steps), steps * time.step_seconds()},
      {"first and last passes over queries and labels", (prime ? 2 * queries : 0) + (prime ? 2 : 1) * labels},
      {fmt::format("{} clusterings of the queries", clusterings), as_double(clusterings) * cluster},
      {fmt::format("{} evaluations: test queries, labels between epochs", evaluations),
       as_double(evaluations) * (test) + as_double(evaluations - 1) * labels},
      {"search in evaluations", as_double(evaluations) * search},
  };
  return time;
}

}  // namespace vixen

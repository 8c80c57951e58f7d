// The table of devices and the sum over parts.
#include "plan/time_plan.hpp"

#include <ATen/ATen.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "base/check.hpp"
#include "base/lap.hpp"
#include "base/progress.hpp"
#include "objective/partial_objective.hpp"
#include "prototypes/label_prototypes.hpp"
#include "sampling/sampler.hpp"

namespace vixen {
namespace {

// Share of the peak that whole transformer layers reach: published LoRA and full fine-tuning runs lie at 0.4 to 0.6.
constexpr double kAttainable = 0.5;

// Seconds of the fastest of a few calls.
template <typename Work>
double fastest(Work work) {
  work();
  return fastest_seconds(5, work);
}

double product_rate(at::ScalarType dtype) {
  const auto a = at::ones({2048, 512}, dtype), b = at::ones({512, 1024}, dtype);
  auto c = at::empty({2048, 1024}, dtype);
  return 2.0 * 2048 * 512 * 1024 / fastest([&] { at::mm_out(c, a, b); });
}

// Packed layers reach this share of a plain product's rate on CPU (vixen bench prints it).
constexpr double kCpuAttainable = 0.7;
// Between processes of a machine, through shared memory.
constexpr double kCpuReduceRate = 1.5e9;

DeviceRates measured_cpu(Compute compute) {
  const Stage stage("measure this machine");
  DeviceRates cpu{"cpu", 0, 0, kCpuAttainable, 0, 0, kCpuReduceRate, "measured now; all-reduce assumed"};
  cpu.memory_bytes = static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE));
  cpu.float_flops = product_rate(at::kFloat);
  cpu.peak_flops = compute == Compute::kBfloat16 ? product_rate(at::kBFloat16) : cpu.float_flops;
  const auto source = at::ones({32 << 20}, at::kByte);
  auto target = at::empty_like(source);
  cpu.memory_rate = 2.0 * static_cast<double>(source.numel()) / fastest([&] { target.copy_(source); });
  return cpu;
}

// Memory, dense bf16, fp32 and memory rate: the vendor's data sheets of the SXM modules ("NVIDIA H100 Tensor Core GPU",
// "NVIDIA H200 Tensor Core GPU", "NVIDIA A100 Tensor Core GPU"). All-reduce: bus bandwidth that rings over NVLink reach
// within a node of eight, 370 of 450 GB/s a direction on H100 and H200, 230 of 300 on A100.
DeviceRates rates_of(PlannedDevice device, Compute compute) {
  const std::string name = name_of(device), source = "data sheet, NVLink ring";
  switch (device) {
    case PlannedDevice::kH100:
      return {name, 80e9, 989e12, kAttainable, 67e12, 3.35e12, 370e9, source};
    case PlannedDevice::kH200:
      return {name, 141e9, 989e12, kAttainable, 67e12, 4.8e12, 370e9, source};
    case PlannedDevice::kA100With80:
      return {name, 80e9, 312e12, kAttainable, 19.5e12, 2.04e12, 230e9, source};
    case PlannedDevice::kA100With40:
      return {name, 40e9, 312e12, kAttainable, 19.5e12, 1.555e12, 230e9, source};
    case PlannedDevice::kCpu:
      return measured_cpu(compute);
  }
  VIXEN_CHECK(false, "device {}", static_cast<int>(device));
}

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

// Seconds to encode rows of one side, all ranks together.
double encode_seconds(const MemoryShape& shape, const LayeredEncoder& encoder, int64_t rows,
                      const LengthStatistics& lengths, const DeviceRates& device) {
  const double n = as_double(rows);
  return encoder.costs().forward_flops(static_cast<int64_t>(n * lengths.mean),
                                       static_cast<int64_t>(n * lengths.mean_square)) /
         device.rate() / as_double(shape.world_size);
}

// Seconds of a rank's part of the objective.
double objective_seconds(const MemoryShape& shape, const Objective& objective, bool sharded,
                         const DeviceRates& device) {
  const int64_t b = shape.config.train.batch_size, m = shape.columns;
  if (!sharded)
    return objective.flops(b, m, shape.width) / device.float_flops + objective.traffic_bytes(b, m) / device.memory_rate;
  const auto side = [&](Side of, int64_t rows, int64_t columns) {
    return as_double(rows) / as_double(shape.world_size) *
           (objective.row_flops(of, columns, shape.width) / device.float_flops +
            objective.row_traffic_bytes(of, columns) / device.memory_rate);
  };
  return side(Side::kQueries, b, m) + side(Side::kColumns, m, b);
}

}  // namespace

DeviceRates device_rates(const Config& config) {
  const auto& plan = config.plan;
  DeviceRates device = rates_of(plan.gpu, config.model.compute);
  if (plan.gpu != PlannedDevice::kCpu && config.model.compute == Compute::kFloat32)
    device.peak_flops = device.float_flops;
  if (plan.tflops > 0) {
    device.peak_flops = plan.tflops * 1e12;
    device.attainable = 1;
  }
  if (plan.bandwidth_gbs > 0) device.reduce_rate = plan.bandwidth_gbs * 1e9;
  return device;
}

double TimePlan::step_seconds() const {
  return sum_of(step);
}

double TimePlan::run_seconds() const {
  return sum_of(run);
}

TimePlan plan_time(const MemoryShape& shape, const LayeredEncoder& encoder, const MemoryChoice& chosen,
                   const DeviceRates& device) {
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
  time.forward_flops = encoder.costs().forward_flops(batch.positions, batch.sum_squared_lengths);
  time.backward_flops = encoder.costs().backward_flops(batch.positions, batch.sum_squared_lengths);
  const double layers_again = as_double(chosen.recompute_layers) / as_double(std::max<int64_t>(1, encoder.n_layers()));
  time.repeated_flops = time.forward_flops * (layers_again + (chosen.chunks > 1 ? 1 : 0));

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
  time.step = {
      {"forward", time.forward_flops / device.rate()},
      {"forward again (recomputation, gradient caching)", time.repeated_flops / device.rate()},
      {"backward", time.backward_flops / device.rate()},
      {"prototypes and objective", prototype_flops / device.rate() + loss},
      {"all-gather of embeddings", embeddings},
      {"reduce-scatter of their gradients", sharded ? embeddings : 0},
      {"all-reduce of gradients", 2 * as_double(shape.trained_elements) * gradient_bytes * ring},
      {"optimiser", (update + as_double(shape.copy_bytes) * 3) / device.memory_rate},
      {"rows of the tables in host memory", host_bytes / kHostTableRate},
  };

  const double steps = as_double(train.epochs * time.steps_per_epoch);
  const double queries = encode_seconds(shape, encoder, shape.data.queries, shape.data.query, device);
  const double labels = encode_seconds(shape, encoder, shape.data.labels, shape.data.label, device);
  const double test = encode_seconds(shape, encoder, shape.data.test_queries, shape.data.query, device);
  const double search =
      2 * as_double(shape.data.test_queries) * as_double(shape.data.labels) * d / device.float_flops / w;
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

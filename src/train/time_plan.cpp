// The table of devices and the sum over parts.
#include "train/time_plan.hpp"

#include <ATen/ATen.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "base/check.hpp"
#include "cluster/balanced_two_means.hpp"

namespace vixen {
namespace {

// Iterations that a split of balanced 2-means takes until it gains less than its tolerance (on title embeddings).
constexpr double kTwoMeansIterations = 8;

// Share of the peak that whole transformer layers reach: published LoRA and full fine-tuning runs lie at 0.4 to 0.6.
constexpr double kAttainable = 0.5;

// Memory, dense bf16, fp32 and memory rate: the vendor's data sheets of the SXM modules ("NVIDIA H100 Tensor Core GPU",
// "NVIDIA H200 Tensor Core GPU", "NVIDIA A100 Tensor Core GPU"). All-reduce: bus bandwidth that rings over NVLink reach
// within a node of eight, 370 of 450 GB/s a direction on H100 and H200, 230 of 300 on A100.
DeviceRates listed_device(const std::string& name) {
  if (name == "h100") return {name, 80e9, 989e12, kAttainable, 67e12, 3.35e12, 370e9, "data sheet, NVLink ring"};
  if (name == "h200") return {name, 141e9, 989e12, kAttainable, 67e12, 4.8e12, 370e9, "data sheet, NVLink ring"};
  if (name == "a100-80") return {name, 80e9, 312e12, kAttainable, 19.5e12, 2.04e12, 230e9, "data sheet, NVLink ring"};
  if (name == "a100-40") return {name, 40e9, 312e12, kAttainable, 19.5e12, 1.555e12, 230e9, "data sheet, NVLink ring"};
  fail_user("plan.gpu = {}: expected h100, h200, a100-80, a100-40 or cpu", name);
}

// Seconds of the fastest of a few calls.
template <typename Work>
double fastest(Work work) {
  work();
  double best = 1e30;
  for (int repeat = 0; repeat < 5; ++repeat) {
    const auto start = std::chrono::steady_clock::now();
    work();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
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
  DeviceRates cpu{"cpu", 0, 0, kCpuAttainable, 0, 0, kCpuReduceRate, "measured now; all-reduce assumed"};
  cpu.memory_bytes = static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE));
  cpu.float_flops = product_rate(at::kFloat);
  cpu.peak_flops = compute == Compute::kBfloat16 ? product_rate(at::kBFloat16) : cpu.float_flops;
  const auto source = at::ones({32 << 20}, at::kByte);
  auto target = at::empty_like(source);
  cpu.memory_rate = 2.0 * static_cast<double>(source.numel()) / fastest([&] { target.copy_(source); });
  return cpu;
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

}  // namespace

DeviceRates device_rates(const Config& config) {
  const auto& plan = config.plan;
  DeviceRates device = plan.gpu == "cpu" ? measured_cpu(config.model.compute) : listed_device(plan.gpu);
  if (plan.gpu != "cpu" && config.model.compute == Compute::kFloat32) device.peak_flops = device.float_flops;
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
  const bool prime = train.method == Method::kPrime;
  const double w = as_double(shape.world_size), d = as_double(shape.width), all = as_double(train.batch_size);
  const double rows = all / w;
  const auto batch = mean_batch(shape.data, static_cast<int64_t>(std::ceil(rows)));

  TimePlan time;
  time.steps_per_epoch = (shape.data.queries + train.batch_size - 1) / train.batch_size;
  time.forward_flops = encoder.costs().forward_flops(batch.positions, batch.sum_squared_lengths);
  time.backward_flops = encoder.costs().backward_flops(batch.positions, batch.sum_squared_lengths);
  const double layers_again = as_double(chosen.recompute_layers) / as_double(std::max<int64_t>(1, encoder.n_layers()));
  time.repeated_flops = time.forward_flops * (layers_again + (chosen.chunks > 1 ? 1 : 0));

  // Objective: q u^T (and q z^T), and the products of its gradients; some 30 sweeps over B x B scores. Prototypes: a
  // transformer layer over three positions a label, forward and twice that backward.
  const double products = prime ? 7 : 3;
  const double objective = products * 2 * all * all * d / device.float_flops + 30 * 4 * all * all / device.memory_rate;
  const double prototype_flops =
      prime ? 3 * 2 * 3 * rows * (4 * d * d + 2 * d * as_double(config.prototype.feed_forward)) : 0;
  const int64_t vectors =
      prime ? int64_t{1} << depth_for_free_vectors(config.prototype.free_vectors, shape.data.labels) : 0;
  // AdamW reads value, gradient and both moments and writes three of them; gradients are zeroed, and read for the norm.
  const double update = (as_double(shape.trained_elements) + as_double(vectors) * d / w) * 4 * 9;
  // Centroids of the batch come up in float32, its queries go down in float16.
  const bool on_host = chosen.tables == TablePlacement::kHost && !shape.cpu;
  const double host_bytes = on_host ? rows * d * ((prime ? 4 : 0) + 2) : 0;
  const double ring = (w - 1) / w / device.reduce_rate;  // all-gather; an all-reduce travels twice
  time.step = {
      {"forward", time.forward_flops / device.rate()},
      {"forward again (recomputation, gradient caching)", time.repeated_flops / device.rate()},
      {"backward", time.backward_flops / device.rate()},
      {"prototypes and objective", prototype_flops / device.rate() + objective},
      {"all-gather of embeddings", all * (prime ? 3 : 2) * d * 4 * ring},
      {"all-reduce of gradients", 2 * as_double(shape.trained_elements) * 4 * ring},
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
  int64_t clusterings = 0;
  if (train.epochs - 2 >= config.cluster.start_epoch)
    clusterings = 1 + (train.epochs - 2 - config.cluster.start_epoch) / config.cluster.update_epochs;
  const double depth = depth_for_cluster_size(shape.data.queries, config.cluster.size);
  const double cluster = as_double(shape.data.queries) / w * d * 4 * depth * kTwoMeansIterations / device.memory_rate;
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

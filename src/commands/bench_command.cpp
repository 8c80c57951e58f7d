// vixen bench: times the parts of a configuration and prints each one's share of what the machine can do.
//   With --data.path and --model.path: first passes, training step by phase, search. Always: matrix products, kernels,
//   collectives.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "base/file.hpp"
#include "base/log.hpp"
#include "base/standard_streams.hpp"
#include "base/version.hpp"
#include "commands/commands.hpp"
#include "commands/common.hpp"
#include "device/device.hpp"
#include "device/tracked_memory.hpp"
#include "eval/evaluator.hpp"
#include "kernels/choice.hpp"
#include "kernels/kernel_bench.hpp"
#include "kernels/pooling.hpp"
#include "model/adapters/adapter_files.hpp"
#include "train/trainer.hpp"

namespace vixen {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Waits for the device: what was timed has ended.
void settle(const at::Tensor& tensor) {
  if (tensor.defined() && tensor.is_cuda()) tensor.flatten().narrow(0, 0, 1).cpu();
}

// Median seconds of `work`, repeated for about half a second after one warm-up call.
double time_of(const std::function<at::Tensor()>& work) {
  settle(work());
  std::vector<double> seconds;
  const auto start = Clock::now();
  while (seconds.size() < 3 || (seconds_since(start) < 0.5 && seconds.size() < 200)) {
    const auto before = Clock::now();
    settle(work());
    seconds.push_back(seconds_since(before));
  }
  std::nth_element(seconds.begin(), seconds.begin() + static_cast<int64_t>(seconds.size() / 2), seconds.end());
  return seconds[seconds.size() / 2];
}

// FLOP/s of a [4096, 384] x [384, 1536] product: the shape of a small encoder's feed-forward on a batch.
double gemm_rate(at::ScalarType dtype, at::Device device) {
  const auto options = at::TensorOptions().device(device);
  const auto a = at::randn({4096, 384}, options).to(dtype);
  const auto b = at::randn({1536, 384}, options).to(dtype);
  return 2.0 * 4096 * 384 * 1536 / time_of([&] { return at::matmul(a, b.t()); });
}

void print_row(const std::string& name, const std::string& value, const std::string& remark = {}) {
  print_out("  {:<34} {:>16}  {}\n", name, value, remark);
}

nlohmann::json bench_machine(Communicator& comm) {
  const double fp32 = gemm_rate(at::kFloat, comm.device());
  const double bf16 = gemm_rate(at::kBFloat16, comm.device());
  const auto source = at::ones({64 << 20}, at::TensorOptions().dtype(at::kByte).device(comm.device()));
  auto target = at::empty_like(source);
  const double copy = 2.0 * static_cast<double>(source.numel()) / time_of([&] { return target.copy_(source); });
  if (comm.rank() == 0) {
    print_out("machine, one rank ({} threads)\n", at::get_num_threads());
    print_row("matrix product fp32", fmt::format("{:.1f} GFLOP/s", fp32 / 1e9));
    print_row("matrix product bf16", fmt::format("{:.1f} GFLOP/s", bf16 / 1e9));
    print_row("copy", fmt::format("{:.1f} GB/s", copy / 1e9), "read + write");
  }
  return {{"gemm_fp32_flops", fp32}, {"gemm_bf16_flops", bf16}, {"copy_bytes_per_s", copy}};
}

nlohmann::json bench_collectives(Communicator& comm, int64_t elements) {
  auto buffer = at::zeros({elements}, at::TensorOptions().device(comm.device()));
  comm.barrier();
  const int rounds = 5;
  auto start = Clock::now();
  for (int i = 0; i < rounds; ++i) comm.all_reduce_sum(buffer);
  settle(buffer);
  const double reduce = seconds_since(start) / rounds;
  const auto part = at::zeros({512, 384}, buffer.options());
  const std::vector<int64_t> rows(static_cast<size_t>(comm.world_size()), part.size(0));
  start = Clock::now();
  at::Tensor gathered;
  for (int i = 0; i < rounds; ++i) gathered = comm.all_gather_rows(part, rows);
  settle(gathered);
  const double gather = seconds_since(start) / rounds;
  if (comm.rank() == 0) {
    print_out("collectives, {} ranks\n", comm.world_size());
    print_row("all-reduce", fmt::format("{:.2f} ms", reduce * 1e3),
              fmt::format("{:.1f} MB", static_cast<double>(elements) * 4e-6));
    print_row("all-gather", fmt::format("{:.2f} ms", gather * 1e3), "512 x 384 a rank");
  }
  return {{"all_reduce_seconds", reduce}, {"all_reduce_bytes", elements * 4}, {"all_gather_seconds", gather}};
}

nlohmann::json bench_kernel_table(const Config& config, Communicator& comm) {
  nlohmann::json rows = nlohmann::json::array();
  const auto dtype = config.model.compute == Compute::kBfloat16 ? at::kBFloat16 : at::kFloat;
  const auto timings = bench_kernels(5000, 384, 1536, 12, dtype);
  if (comm.rank() == 0) print_out("kernels, 5000 positions x 384, {}, CPU set {}\n", at::toString(dtype), cpu_isa());
  for (const auto& timing : timings) {
    if (comm.rank() == 0)
      print_row(timing.name, fmt::format("{:.0f} us", timing.microseconds),
                fmt::format("{:.1f} GB/s, reference {:.0f} us", timing.gb_per_s, timing.reference_microseconds));
    rows.push_back({{"name", timing.name},
                    {"microseconds", timing.microseconds},
                    {"gb_per_s", timing.gb_per_s},
                    {"reference_microseconds", timing.reference_microseconds}});
  }
  return rows;
}

// FLOPs of a step's encoder passes over real tokens, forward and backward; what is computed twice counts once.
double encoder_flops(const LayeredEncoder& encoder, const StepInput& input) {
  double flops = 0;
  for (const PackedBatch& batch : input.chunks) {
    const auto squares = batch.cu_seqlens.diff().to(at::kLong).square().sum().item<int64_t>();
    flops += encoder.costs().forward_flops(batch.n_positions(), squares) +
             encoder.costs().backward_flops(batch.n_positions(), squares);
  }
  return flops;
}

// "qwen2 backbone, LoRA r=64 on q,k,v": what the rows of the table are about.
std::string model_label(const Config& config, const Encoder& encoder) {
  std::string text = fmt::format("{}, {} layers of width {}", encoder.traits().is_decoder ? "decoder" : "encoder",
                                 encoder.n_layers(), encoder.width());
  const auto lora = with_adapter_settings(config.lora);
  return lora.rank == 0 ? text + ", all weights trained"
                        : text + fmt::format(", LoRA r={} on {}", lora.rank, lora.modules);
}

nlohmann::json bench_training(const Config& config, Trainer& trainer, const Dataset& dataset, Communicator& comm,
                              double gemm_flops) {
  trainer.prepare();
  const auto& first = trainer.first_pass_seconds();
  const auto order = trainer.planner().epoch_order(0, {});
  constexpr int64_t kWarmUp = 3, kSteps = 10;
  double data = 0, seconds = 0, flops = 0, update = 0;
  int64_t positions = 0, queries = 0;
  StepResult phases;
  reset_peak_tensor_bytes();
  const auto& plan = trainer.memory_plan();
  const int64_t planned_bytes = plan.resident_bytes() + plan.step_bytes();
  for (int64_t index = 0; index < kWarmUp + kSteps; ++index) {
    auto before = Clock::now();
    const auto input = trainer.step().prepare(
        trainer.planner().plan(0, index % trainer.planner().steps_per_epoch(), order), dataset, trainer.pack_options());
    const double packing = seconds_since(before);
    before = Clock::now();
    auto result = trainer.step().accumulate(input);
    trainer.step().update(0.5, false, result);
    settle(result.loss);
    if (index < kWarmUp) continue;
    seconds += seconds_since(before);
    data += packing;
    positions += input.n_positions();
    queries += static_cast<int64_t>(input.plan.query_rows.size());
    flops += encoder_flops(trainer.encoder(), input);
    phases.forward_seconds += result.forward_seconds;
    phases.backward_seconds += result.backward_seconds;
    phases.collective_seconds += result.collective_seconds;
    update += result.optimiser_seconds;
  }
  const double step = seconds / kSteps;
  const double share = flops / seconds / gemm_flops;
  const auto rate = [](int64_t rows, double s) { return s > 0 ? static_cast<double>(rows) / s : 0; };
  if (comm.rank() == 0) {
    print_out("training, batch {}, {} ranks, {}: {}; {}\n", config.train.batch_size, comm.world_size(),
              config.model.compute == Compute::kBfloat16 ? "bf16" : "fp32", model_label(config, trainer.encoder()),
              choice_text(trainer.memory_plan(), trainer.encoder().n_layers()));
    print_row("first pass: labels", fmt::format("{:.2f} s", first.labels),
              fmt::format("{:.0f} rows/s", rate(dataset.labels().size(), first.labels)));
    print_row("first pass: queries", fmt::format("{:.2f} s", first.queries),
              fmt::format("{:.0f} rows/s", rate(dataset.train().size(), first.queries)));
    print_row("free vectors (balanced 2-means)", fmt::format("{:.2f} s", first.clusters));
    print_row("centroids", fmt::format("{:.2f} s", first.centroids));
    print_row("step", fmt::format("{:.3f} s", step),
              fmt::format("{:.0f} queries/s, {:.0f} positions/s", static_cast<double>(queries) / seconds,
                          static_cast<double>(positions) / seconds));
    print_row("  forward", fmt::format("{:.3f} s", phases.forward_seconds / kSteps));
    print_row("  backward", fmt::format("{:.3f} s", phases.backward_seconds / kSteps));
    print_row("  collectives and bank", fmt::format("{:.3f} s", phases.collective_seconds / kSteps));
    print_row("  optimiser", fmt::format("{:.3f} s", update / kSteps));
    print_row("  packing (off the critical path)", fmt::format("{:.3f} s", data / kSteps));
    print_row("encoder FLOPs of real tokens", fmt::format("{:.1f} GFLOP/s", flops / seconds / 1e9),
              fmt::format("{:.0f}% of the matrix product rate", 100 * share));
    if (comm.device().is_cpu())
      print_row("tensors, peak and as planned",
                fmt::format("{:.1f} MB", static_cast<double>(peak_tensor_bytes()) / 1e6),
                fmt::format("{:.1f} MB planned", static_cast<double>(planned_bytes) / 1e6));
    print_row("label side, this rank", fmt::format("{:.1f} MB", static_cast<double>(trainer.label_side_bytes()) / 1e6));
  }
  return {{"model", model_label(config, trainer.encoder())},
          {"chunks", plan.choice.chunks},
          {"recompute_layers", plan.choice.recompute_layers},
          {"tables", name_of(plan.choice.tables)},
          {"peak_tensor_bytes", memory_use(comm.device()).peak_tensor_bytes},
          {"planned_bytes", planned_bytes},
          {"labels_pass_seconds", first.labels},
          {"queries_pass_seconds", first.queries},
          {"free_vectors_seconds", first.clusters},
          {"centroids_seconds", first.centroids},
          {"step_seconds", step},
          {"queries_per_s", static_cast<double>(queries) / seconds},
          {"positions_per_step", positions / kSteps},
          {"forward_seconds", phases.forward_seconds / kSteps},
          {"backward_seconds", phases.backward_seconds / kSteps},
          {"optimiser_seconds", update / kSteps},
          {"collective_seconds", phases.collective_seconds / kSteps},
          {"packing_seconds", data / kSteps},
          {"encoder_flops_per_s", flops / seconds},
          {"share_of_gemm", share},
          {"label_side_bytes", trainer.label_side_bytes()}};
}

nlohmann::json bench_search(const Config& config, Trainer& trainer, const Dataset& dataset, Communicator& comm) {
  EncodePassOptions encode;
  encode.pack = trainer.pack_options();
  encode.device = comm.device();
  const auto shard = [&](const SequenceTable& table) {
    const auto range = RowShards(table.size(), comm.world_size()).range(comm.rank());
    return normalize_rows(encode_rows(trainer.encoder(), table, dataset.images(), range, encode)).y;
  };
  const auto labels = shard(dataset.labels());
  const auto queries = shard(dataset.test());
  const auto options = search_options(config, config.search.k, false);
  const LabelIndex index(labels, RowShards(dataset.labels().size(), comm.world_size()).range(comm.rank()).begin,
                         options);
  comm.barrier();
  const auto start = Clock::now();
  settle(sharded_search(index, queries, options, comm).scores);
  const double seconds = comm.max_host(seconds_since(start));
  const auto n = static_cast<double>(dataset.test().size());
  const double flops = 2 * n * static_cast<double>(dataset.labels().size() * labels.size(1)) / seconds;
  if (comm.rank() == 0)
    print_row(fmt::format("exact top-{}", config.search.k), fmt::format("{:.3f} s", seconds),
              fmt::format("{:.0f} queries/s, {:.1f} GFLOP/s", n / seconds, flops / 1e9));
  return {{"seconds", seconds}, {"queries_per_s", n / seconds}, {"flops", flops}, {"k", config.search.k}};
}

}  // namespace

int bench_command(const Config& config, MpiSession& session) {
  const auto comm = start_job(config, session);
  log_cpus(config, session);
  nlohmann::json report = {{"created_by", created_by("bench")},
                           {"ranks", comm->world_size()},
                           {"threads", at::get_num_threads()},
                           {"device", config.device}};
  report["machine"] = bench_machine(*comm);
  report["kernels"] = bench_kernel_table(config, *comm);
  report["collectives"] = bench_collectives(*comm, 23 << 20);
  if (!config.data.path.empty()) {
    const auto dataset = open_dataset(config);
    Trainer trainer(config, *dataset, label_weights(config, *dataset), comm, TrainerHooks{});
    const char* rate = config.model.compute == Compute::kBfloat16 ? "gemm_bf16_flops" : "gemm_fp32_flops";
    report["training"] = bench_training(config, trainer, *dataset, *comm, report["machine"][rate].get<double>());
    report["search"] = bench_search(config, trainer, *dataset, *comm);
  }
  if (comm->rank() == 0 && !config.out.empty()) write_text_atomically(config.out, report.dump(2) + "\n");
  return 0;
}

}  // namespace vixen

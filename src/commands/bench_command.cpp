// vixen bench: times the parts of a configuration and prints each one's share of what the machine can do.
//   With --data.path and --model.path: first passes, training step by phase, search. Always: matrix products, kernels,
//   collectives, the objective of a batch.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <nlohmann/json.hpp>
#include <numeric>

#include "base/file.hpp"
#include "base/lap.hpp"
#include "base/log.hpp"
#include "base/progress.hpp"
#include "base/standard_streams.hpp"
#include "base/version.hpp"
#include "bench/collective_bench.hpp"
#include "bench/kernel_bench.hpp"
#include "bench/machine_bench.hpp"
#include "bench/objective_bench.hpp"
#include "bench/search_bench.hpp"
#include "commands/commands.hpp"
#include "commands/common.hpp"
#include "device/device.hpp"
#include "device/tracked_memory.hpp"
#include "device/transfer.hpp"
#include "eval/evaluator.hpp"
#include "kernels/choice.hpp"
#include "kernels/pooling.hpp"
#include "model/adapters/adapter_files.hpp"
#include "plan/time_plan.hpp"
#include "train/trainer.hpp"

namespace vixen {
namespace {

void print_row(const std::string& name, const std::string& value, const std::string& remark = {}) {
  print_out("  {:<34} {:>16}  {}\n", name, value, remark);
}

nlohmann::json machine_table(Communicator& comm) {
  auto stage = std::make_unique<Stage>("time the machine");
  const MachineRates rates = bench_machine(comm.device());
  stage.reset();
  if (comm.rank() == 0) {
    print_out("machine, one rank ({} threads)\n", at::get_num_threads());
    print_row("matrix product fp32", fmt::format("{:.1f} GFLOP/s", rates.gemm_fp32_flops / 1e9));
    print_row("matrix product bf16", fmt::format("{:.1f} GFLOP/s", rates.gemm_bf16_flops / 1e9));
    print_row("copy", fmt::format("{:.1f} GB/s", rates.copy_bytes_per_s / 1e9), "read + write");
  }
  return {{"gemm_fp32_flops", rates.gemm_fp32_flops},
          {"gemm_bf16_flops", rates.gemm_bf16_flops},
          {"copy_bytes_per_s", rates.copy_bytes_per_s}};
}

nlohmann::json collective_table(Communicator& comm) {
  constexpr int64_t kElements = 23 << 20;
  const CollectiveTimes times = bench_collectives(comm, kElements);
  if (comm.rank() == 0) {
    print_out("collectives, {} ranks\n", comm.world_size());
    print_row("all-reduce", fmt::format("{:.2f} ms", times.all_reduce_seconds * 1e3),
              fmt::format("{:.1f} MB", static_cast<double>(kElements) * 4e-6));
    print_row("all-gather", fmt::format("{:.2f} ms", times.all_gather_seconds * 1e3),
              fmt::format("{} x {} a rank", kGatherRows, kGatherWidth));
  }
  return {{"all_reduce_seconds", times.all_reduce_seconds},
          {"all_reduce_bytes", kElements * 4},
          {"all_gather_seconds", times.all_gather_seconds}};
}

nlohmann::json objective_table(const Config& config, Communicator& comm) {
  const auto mb = [](int64_t bytes) { return static_cast<double>(bytes) / 1e6; };
  if (comm.rank() == 0)
    print_out("objective {}, batch {} x {}, {} ranks\n", name_of(config.train.method), config.train.batch_size,
              kObjectiveWidth, comm.world_size());
  nlohmann::json table;
  for (const auto way : {ObjectiveWay::kReplicated, ObjectiveWay::kSharded}) {
    auto stage = std::make_unique<Stage>(fmt::format("time the {} objective", name_of(way)));
    const auto timing = bench_objective(config, way, comm);
    stage.reset();
    if (comm.rank() == 0 && timing)
      print_row(name_of(way), fmt::format("{:.2f} ms", timing->seconds * 1e3),
                fmt::format("{:.1f} MB of tensors a rank, {:.1f} MB of them planned for scores", mb(timing->peak_bytes),
                            mb(timing->planned_bytes)));
    if (comm.rank() == 0 && !timing)
      print_row(name_of(way), "not run", fmt::format("takes more than {:.0f} MB a rank", mb(kMostObjectiveBytes)));
    if (timing)
      table[name_of(way)] = {{"seconds", timing->seconds},
                             {"peak_tensor_bytes", timing->peak_bytes},
                             {"planned_bytes", timing->planned_bytes}};
  }
  return table;
}

nlohmann::json kernel_table(const Config& config, Communicator& comm, double copy_bytes_per_s) {
  // A small encoder's layer; on a GPU, which that would not fill, one of Qwen2.5-0.5B.
  struct Layer {
    int64_t positions, width, feed_forward, heads;
  };
  const bool cpu = comm.device().is_cpu();
  const Layer layer = cpu ? Layer{5000, 384, 1536, 12} : Layer{32768, 896, 4864, 14};
  nlohmann::json rows = nlohmann::json::array();
  const auto dtype = config.model.compute == Compute::kBfloat16 ? at::kBFloat16 : at::kFloat;
  auto stage = std::make_unique<Stage>("time the kernels");
  const auto timings =
      bench_kernels(comm.device(), layer.positions, layer.width, layer.feed_forward, layer.heads, dtype);
  stage.reset();
  if (comm.rank() == 0)
    print_out("kernels, {} positions x {}, {}, {}\n", layer.positions, layer.width, at::toString(dtype),
              cpu ? fmt::format("CPU set {}", cpu_isa()) : comm.device().str());
  for (const auto& timing : timings) {
    const double share = timing.gb_per_s * 1e9 / copy_bytes_per_s;
    if (comm.rank() == 0)
      print_row(timing.name, fmt::format("{:.0f} us", timing.microseconds),
                fmt::format("{:.1f} GB/s, {:.0f}% of a copy's, reference {:.0f} us", timing.gb_per_s, 100 * share,
                            timing.reference_microseconds));
    rows.push_back({{"name", timing.name},
                    {"microseconds", timing.microseconds},
                    {"gb_per_s", timing.gb_per_s},
                    {"share_of_copy", share},
                    {"reference_microseconds", timing.reference_microseconds}});
  }
  return rows;
}

// What a step's encoder passes over real tokens take.
std::vector<EncoderWork> encoder_work(const LayeredEncoder& encoder, const StepInput& input, const MemoryChoice& choice,
                                      bool cpu) {
  std::vector<EncoderWork> all;
  const int64_t own = input.queries.size() + input.labels.size();  // filler has no work of its own
  for (const PackedBatch& batch : input.chunks) {
    const at::Tensor ends = batch.offsets_on_host().narrow(0, 0, std::min(own, batch.n_sequences()) + 1).to(at::kLong);
    all.push_back(vixen::encoder_work(encoder,
                                      {.positions = ends[-1].item<int64_t>(),
                                       .sequences = ends.numel() - 1,
                                       .images = batch.n_images(),
                                       .sum_squared_lengths = ends.diff().square().sum().item<int64_t>(),
                                       .longest = batch.max_seqlen},
                                      choice, cpu));
  }
  return all;
}

// Share of the rate of plain products that an encoder's products reach, when the rest of its seconds is what is read
// and written between them: what plan/time_plan.hpp divides by. 1: nothing is left for them.
double products_share(const Work& work, double seconds, double gemm_flops, double copy_bytes_per_s, double core_flops) {
  const double left = seconds - work.bytes / copy_bytes_per_s - work.core_flops / core_flops,
               least = work.flops / gemm_flops;
  return left > least ? least / left : 1;
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
                              const nlohmann::json& machine) {
  const bool bf16 = config.model.compute == Compute::kBfloat16, cpu = comm.device().is_cpu();
  const auto gemm_flops = machine.at(bf16 ? "gemm_bf16_flops" : "gemm_fp32_flops").get<double>();
  const auto copy_bytes_per_s = machine.at("copy_bytes_per_s").get<double>();
  const double core_flops = core_flops_of(machine.at("gemm_fp32_flops").get<double>(), cpu);
  auto& parts = trainer.parts();
  const auto first = trainer.prepare();
  const auto order = epoch_order(parts, 0);
  constexpr int64_t kWarmUp = 3, kSteps = 10;
  // In the place of mined labels, which cost the same, any: enough of them for those that a batch has already.
  std::vector<int64_t> extra(
      static_cast<size_t>(std::min(dataset.labels().size(), config.train.batch_size + config.mining.columns)));
  std::iota(extra.begin(), extra.end(), 0);
  Progress progress("bench", "steps", kWarmUp + kSteps, comm.rank() == 0);
  double data = 0, seconds = 0, flops = 0, encoder_seconds = 0;
  Work work;
  int64_t positions = 0, queries = 0;
  StepSeconds phases;
  reset_peak_tensor_bytes();
  const auto& plan = parts.memory;
  const int64_t planned_bytes = plan.resident_bytes() + plan.step_bytes();
  for (int64_t index = 0; index < kWarmUp + kSteps; ++index) {
    Lap lap;
    const auto input = parts.step->prepare(
        parts.planner->plan(0, index % parts.planner->steps_per_epoch(), order, extra, config.mining.columns), dataset,
        parts.pack);
    const double packing = lap.next();
    auto result = parts.step->accumulate(input, /*logged=*/true);
    parts.step->update(0.5, false, result);
    settle(result.loss);
    progress.advance(1);
    if (index < kWarmUp) continue;
    seconds += lap.next();
    data += packing;
    positions += input.n_positions;
    queries += static_cast<int64_t>(input.plan.query_rows.size());
    for (const auto& pass : encoder_work(*parts.encoder, input, plan.choice, cpu)) {
      flops += pass.model_flops();  // what is computed twice counts once
      const Work all = pass.sum();
      work = {work.flops + all.flops, work.bytes + all.bytes, work.core_flops + all.core_flops};
    }
    encoder_seconds += result.encoder->seconds();
    phases.forward += result.seconds.forward;
    phases.backward += result.seconds.backward;
    phases.collectives += result.seconds.collectives;
    phases.optimiser += result.seconds.optimiser;
  }
  progress.finish();
  const double step = seconds / kSteps;
  const int64_t label_side = parts.prototypes ? parts.prototypes->local_bytes() : 0;
  const double share = flops / seconds / gemm_flops;
  const double products = products_share(work, encoder_seconds, gemm_flops, copy_bytes_per_s, core_flops);
  const auto rate = [](int64_t rows, double s) { return s > 0 ? static_cast<double>(rows) / s : 0; };
  if (comm.rank() == 0) {
    print_out("training, batch {}, {} ranks, {}: {}; {}\n", config.train.batch_size, comm.world_size(),
              config.model.compute == Compute::kBfloat16 ? "bf16" : "fp32", model_label(config, *parts.encoder),
              choice_text(parts.memory, parts.encoder->n_layers()));
    print_row("first pass: labels", fmt::format("{:.2f} s", first.labels),
              fmt::format("{:.0f} rows/s", rate(dataset.labels().size(), first.labels)));
    print_row("first pass: queries", fmt::format("{:.2f} s", first.queries),
              fmt::format("{:.0f} rows/s", rate(dataset.train().size(), first.queries)));
    print_row("free vectors (balanced 2-means)", fmt::format("{:.2f} s", first.clusters));
    print_row("centroids", fmt::format("{:.2f} s", first.centroids));
    print_row("step", fmt::format("{:.3f} s", step),
              fmt::format("{:.0f} queries/s, {:.0f} positions/s", static_cast<double>(queries) / seconds,
                          static_cast<double>(positions) / seconds));
    print_row("  forward", fmt::format("{:.3f} s", phases.forward / kSteps));
    print_row("  backward", fmt::format("{:.3f} s", phases.backward / kSteps));
    print_row("  collectives and bank", fmt::format("{:.3f} s", phases.collectives / kSteps));
    print_row("  optimiser", fmt::format("{:.3f} s", phases.optimiser / kSteps));
    print_row("  packing (off the critical path)", fmt::format("{:.3f} s", data / kSteps));
    print_row("encoder FLOPs of real tokens", fmt::format("{:.1f} GFLOP/s", flops / seconds / 1e9),
              fmt::format("{:.0f}% of the matrix product rate", 100 * share));
    print_row(
        "encoder", fmt::format("{:.3f} s", encoder_seconds / kSteps),
        fmt::format("{:.0f} GB/s between products of {:.0f}% of their rate", copy_bytes_per_s / 1e9, 100 * products));
    if (comm.device().is_cpu())
      print_row("tensors, peak and as planned",
                fmt::format("{:.1f} MB", static_cast<double>(peak_tensor_bytes()) / 1e6),
                fmt::format("{:.1f} MB planned", static_cast<double>(planned_bytes) / 1e6));
    print_row("label side, this rank", fmt::format("{:.1f} MB", static_cast<double>(label_side) / 1e6));
  }
  return {{"model", model_label(config, *parts.encoder)},
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
          {"forward_seconds", phases.forward / kSteps},
          {"backward_seconds", phases.backward / kSteps},
          {"optimiser_seconds", phases.optimiser / kSteps},
          {"collective_seconds", phases.collectives / kSteps},
          {"packing_seconds", data / kSteps},
          {"encoder_flops_per_s", flops / seconds},
          {"share_of_gemm", share},
          {"encoder_seconds", encoder_seconds / kSteps},
          {"products_share", products},
          {"label_side_bytes", label_side}};
}

nlohmann::json bench_search_part(const Config& config, Trainer& trainer, const Dataset& dataset, Communicator& comm) {
  const SearchTiming timing = bench_search(*trainer.parts().encoder, dataset, config, comm);
  const RetrievalReport& report = timing.report;
  const char* method = index_kind(report.method).name;
  nlohmann::json part = {{"method", method},
                         {"k", report.k},
                         {"seconds", report.search_seconds},
                         {"queries_per_s", timing.queries_per_s},
                         {"build_seconds", report.build_seconds},
                         {"index_bytes", report.index_bytes}};
  std::string remark = fmt::format("{:.0f} queries/s, ", timing.queries_per_s);
  if (report.recall) {
    part["recall"] = *report.recall;
    part["recall_queries"] = report.recall_queries;
    remark += fmt::format("{:.2f}% of the exact answer", 100 * *report.recall);
  } else {
    part["flops"] = timing.flops;
    remark += fmt::format("{:.1f} GFLOP/s", timing.flops / 1e9);
  }
  if (comm.rank() == 0)
    print_row(fmt::format("{} top-{}", method, report.k), fmt::format("{:.3f} s", report.search_seconds), remark);
  return part;
}

// What plan.rates reads (plan/device_rates.cpp): what the report says of this device, in one place.
nlohmann::json rates_of(const Config& config, const nlohmann::json& report, Communicator& comm) {
  const auto& machine = report.at("machine");
  nlohmann::json rates = {{"name", device_name(comm.device())},
                          {"memory_bytes", device_bytes(comm.device())},
                          {"fp32_flops_per_s", machine.at("gemm_fp32_flops")},
                          {"bf16_flops_per_s", machine.at("gemm_bf16_flops")},
                          {"memory_bytes_per_s", machine.at("copy_bytes_per_s")}};
  if (report.contains("training"))
    rates[config.model.compute == Compute::kBfloat16 ? "products_share_bf16" : "products_share_fp32"] =
        report.at("training").at("products_share");
  if (const double w = comm.world_size(); w > 1) {
    const auto& collectives = report.at("collectives");
    rates["all_reduce_bytes_per_s"] = 2 * (w - 1) / w * collectives.at("all_reduce_bytes").get<double>() /
                                      collectives.at("all_reduce_seconds").get<double>();
  }
  return rates;
}

}  // namespace

int bench_command(const Config& asked, MpiSession& session) {
  Config config = asked;
  config.run.checkpoint_async = false;  // no checkpoint is written: no memory is set aside for one
  const auto comm = start_job(config, session);
  log_cpus(config, session);
  nlohmann::json report = {{"created_by", created_by("bench")},
                           {"ranks", comm->world_size()},
                           {"threads", at::get_num_threads()},
                           {"device", name_of(config.device)}};
  report["machine"] = machine_table(*comm);
  report["kernels"] = kernel_table(config, *comm, report["machine"]["copy_bytes_per_s"].get<double>());
  report["collectives"] = collective_table(*comm);
  report["objective"] = objective_table(config, *comm);
  if (!config.data.path.empty()) {
    const auto dataset = open_dataset(config);
    Trainer trainer(config, *dataset, label_weights(config, *dataset, *comm), comm);
    report["training"] = bench_training(config, trainer, *dataset, *comm, report["machine"]);
    report["search"] = bench_search_part(config, trainer, *dataset, *comm);
  }
  report["rates"] = rates_of(config, report, *comm);
  if (comm->rank() == 0 && !config.out.empty()) write_text_atomically(config.out, report.dump(2) + "\n");
  return 0;
}

}  // namespace vixen

// vixen plan: what a configuration needs of memory and time on each rank, from config.json and the shape of the data.
#include <ATen/ATen.h>

#include <nlohmann/json.hpp>

#include "base/check.hpp"
#include "base/file.hpp"
#include "base/log.hpp"
#include "base/progress.hpp"
#include "base/standard_streams.hpp"
#include "base/text.hpp"
#include "base/version.hpp"
#include "commands/commands.hpp"
#include "commands/common.hpp"
#include "commands/nodes_report.hpp"
#include "model/adapters/adapter_files.hpp"
#include "model/folder_settings.hpp"
#include "model/make_encoder.hpp"
#include "model/prototype.hpp"
#include "objective/objective.hpp"
#include "plan/growth.hpp"
#include "plan/memory_plan.hpp"
#include "plan/time_plan.hpp"

namespace vixen {
namespace {

// The [plan] keys with nothing of what the configuration leaves out.
PlanConfig described_data(const Config& config, const Encoder& encoder) {
  PlanConfig plan = config.plan;
  if (!is_prompted(config.prompt, encoder.traits().prompt)) plan.prompt_tokens = 0;
  if (!config.data.images) plan.image_slots = 0;
  return plan;
}

// Shape of the data set, or of the keys; counts given as keys win.
DataShape planned_data(const Config& config, const Encoder& encoder, const Dataset* dataset) {
  if (dataset == nullptr) return data_shape(described_data(config, encoder));
  const Stage stage("count " + dataset->path().string());
  DataShape data = data_shape(*dataset, pack_options(config, encoder, *dataset));
  if (config.plan.queries > 0) data.queries = config.plan.queries;
  if (config.plan.labels > 0) data.labels = config.plan.labels;
  return data;
}

int64_t budget_of(const Config& config, const DeviceRates& device) {
  if (config.plan.memory_gb > 0) return static_cast<int64_t>(config.plan.memory_gb * 1e9);
  if (config.train.memory_gb > 0) return static_cast<int64_t>(config.train.memory_gb * 1e9);
  return static_cast<int64_t>(device.memory_bytes);
}

int64_t planned_image_width(const Config& config, const Dataset* dataset) {
  if (dataset != nullptr) return image_width(config, *dataset);
  return config.data.images && config.plan.image_slots > 0 ? config.plan.image_width : 0;
}

// plan.world_size, or what plan.nodes make.
int64_t planned_ranks(const PlanConfig& plan) {
  if (plan.nodes == 0) return plan.world_size;
  const int64_t ranks = plan.nodes * plan.node_ranks;
  if (plan.world_size != 1 && plan.world_size != ranks)
    fail_user(
        "plan.world_size is {}, but {} nodes (plan.nodes) of {} ranks (plan.node_ranks) have {}: expected that, or "
        "none",
        plan.world_size, plan.nodes, plan.node_ranks, ranks);
  return ranks;
}

std::string time_table(const std::string& title, const std::vector<TimePart>& parts, double total) {
  std::string text = fmt::format("  {:<52} {:>10}\n", title, seconds_text(total));
  for (const auto& part : parts)
    if (part.seconds > 0) text += fmt::format("    {:<50} {:>10}\n", part.name, seconds_text(part.seconds));
  return text;
}

std::string report_text(const MemoryShape& shape, const Encoder& encoder, const MemoryPlan& memory,
                        const GrowthLimit& limit, const TimePlan& time, const DeviceRates& device) {
  const auto& config = shape.config;
  const auto mean = mean_batch(shape.data, shape.rank_queries, shape.rank_labels);
  std::string text = fmt::format(
      "{} {}, {} layers of width {}{}; {} queries, {} labels; batch {} over {} rank{}: {} sequences, {} positions, {} "
      "pictures a rank (at most {} positions)\n\n",
      encoder.traits().is_decoder ? "decoder" : "encoder", config.model.path, encoder.n_layers(), encoder.width(),
      config.lora.rank > 0 ? fmt::format(", LoRA r={} on {}", config.lora.rank, config.lora.modules) : "",
      with_commas(shape.data.queries), with_commas(shape.data.labels), config.train.batch_size, shape.world_size,
      shape.world_size == 1 ? "" : "s", with_commas(mean.sequences), with_commas(mean.positions),
      with_commas(mean.images), with_commas(shape.batch.positions));
  text += memory_table(memory, encoder.n_layers());
  const double share = static_cast<double>(memory.peak_bytes()) / static_cast<double>(memory.budget_bytes);
  text += fmt::format("  {:<52} {:>9.0f}%\n", "share of the budget", 100 * share);
  text += fmt::format("  what breaks first: {}\n\n", limit.text());
  text += fmt::format("time on {} at {:.1f} TFLOP/s ({:.0f}% of {:.1f}) and {:.0f} GB/s between products ({})\n",
                      device.name, device.rate() / 1e12, 100 * device.products_share, device.peak_flops / 1e12,
                      device.memory_rate / 1e9, device.source);
  text += time_table("a step", time.step, time.step_seconds());
  text +=
      fmt::format("  {:<52} {:>7.1f} TF\n", "FLOPs of a step and rank, once each", time.encoder.model_flops() / 1e12);
  text += fmt::format("  {:<52} {:>7.1f} GB\n", "read and written between products, a step and rank",
                      time.encoder.sum().bytes / 1e9);
  text += fmt::format("  {:<52} {:>10}\n", "steps an epoch", with_commas(time.steps_per_epoch));
  text += time_table(fmt::format("all {} epochs", config.train.epochs), time.run, time.run_seconds());
  return text;
}

NodesPlan plan_nodes(const PlannedRun& run, const MemoryPlan& memory, const StepCompute& compute) {
  const auto& plan = run.shape.config.plan;
  NodesPlan nodes{make_topology(plan, run.device, plan.nodes, plan.node_ranks),
                  step_traffic(traffic_shape(run.shape, memory.objective, run.encoder, run.store, run.network)),
                  {},
                  weak_scaling(run)};
  std::vector<Exchange> exchanges;
  for (const auto& item : nodes.traffic) exchanges.push_back(item.most);
  nodes.timeline =
      step_timeline(compute, exchanges, nodes.topology, {.chunks = memory.choice.chunks, .behind = !run.shape.cpu});
  return nodes;
}

nlohmann::json parts_json(const std::vector<MemoryPart>& parts) {
  auto object = nlohmann::json::object();
  for (const auto& part : parts) object[part.name] = part.bytes;
  return object;
}

nlohmann::json parts_json(const std::vector<TimePart>& parts) {
  auto object = nlohmann::json::object();
  for (const auto& part : parts) object[part.name] = part.seconds;
  return object;
}

nlohmann::json report_json(const MemoryShape& shape, const Encoder& encoder, const MemoryPlan& memory,
                           const GrowthLimit& limit, const TimePlan& time, const DeviceRates& device) {
  const auto& config = shape.config;
  return {{"created_by", created_by("plan")},
          {"model", config.model.path},
          {"world_size", shape.world_size},
          {"batch_size", config.train.batch_size},
          {"layers", encoder.n_layers()},
          {"width", encoder.width()},
          {"trained_elements", shape.trained_elements},
          {"choice",
           {{"chunks", memory.choice.chunks},
            {"recompute_layers", memory.choice.recompute_layers},
            {"tables", name_of(memory.choice.tables)},
            {"objective", name_of(memory.objective)}}},
          {"memory",
           {{"resident", parts_json(memory.resident)},
            {"step", parts_json(memory.step)},
            {"passes", parts_json(memory.passes)},
            {"host", parts_json(memory.host)},
            {"slack_bytes", memory.slack_bytes},
            {"host_bytes", memory.host_bytes()},
            {"node", parts_json(memory.node)},
            {"node_bytes", memory.node_bytes()},
            {"mapped_bytes", memory.mapped_bytes},
            {"peak_bytes", memory.peak_bytes()},
            {"budget_bytes", memory.budget_bytes}}},
          {"growth", {{"factor", limit.factor}, {"labels", limit.labels}, {"reason", limit.reason}}},
          {"device",
           {{"name", device.name},
            {"flops_per_s", device.rate()},
            {"peak_flops_per_s", device.peak_flops},
            {"memory_bytes_per_s", device.memory_rate},
            {"all_reduce_bytes_per_s", device.reduce_rate}}},
          {"time",
           {{"step", parts_json(time.step)},
            {"step_seconds", time.step_seconds()},
            {"flops_per_step", time.encoder.model_flops()},
            {"repeated_flops_per_step", time.encoder.repeated.flops + time.encoder.repeated.core_flops},
            {"traffic_bytes_per_step", time.encoder.sum().bytes},
            {"steps_per_epoch", time.steps_per_epoch},
            {"run", parts_json(time.run)},
            {"hours", time.run_seconds() / kSecondsAnHour}}}};
}

}  // namespace

int plan_command(const Config& asked, MpiSession& session) {
  const auto comm = start_job(asked, session);
  if (asked.model.path.empty()) fail_user("--model.path is missing: give a Hugging Face folder, or a config.json");
  Config config = asked;
  config.lora = with_adapter_settings(asked.lora);
  config.model = with_folder_settings(asked.model, asked.lora);
  std::unique_ptr<Dataset> dataset;
  if (!config.data.path.empty()) dataset = std::make_unique<Dataset>(config.data.path);

  // Parameters are registered, never allocated: that is all that counting needs.
  ParameterStore store;
  const auto encoder = make_encoder({config.model, config.lora, planned_image_width(config, dataset.get())}, store);
  std::unique_ptr<PrototypeNetwork> network;
  if (make_objective(config)->uses_prototypes())
    network = std::make_unique<PrototypeNetwork>(config.prototype, encoder->width(), store);
  const int64_t ranks = planned_ranks(config.plan);
  if (config.train.batch_size < ranks)
    fail_user("train.batch_size is {}, but {} {}: every rank needs a row", config.train.batch_size,
              config.plan.nodes > 0 ? "plan.nodes make" : "plan.world_size", ranks);

  const auto device = device_rates(config);
  const int64_t budget = budget_of(config, device);
  const auto shape = memory_shape(config, planned_data(config, *encoder, dataset.get()), *encoder, store, ranks,
                                  std::min(ranks, config.plan.node_ranks), config.plan.gpu == PlannedDevice::kCpu);
  const auto memory = plan_memory(shape, *encoder, budget);
  auto time = plan_time(shape, *encoder, memory.choice, device);
  if (comm->rank() != 0) return 0;
  std::optional<NodesPlan> nodes;
  if (config.plan.nodes > 0) {
    nodes = plan_nodes({shape, *encoder, store, network.get(), device, budget}, memory, time.compute);
    time = plan_time(shape, *encoder, memory.choice, device, nodes->timeline.waits());
  }
  const auto limit = first_limit(shape, *encoder, budget);
  print_out("{}", report_text(shape, *encoder, memory, limit, time, device));
  if (nodes) print_out("\n{}", nodes_text(*nodes));
  if (config.out.empty()) return 0;
  auto report = report_json(shape, *encoder, memory, limit, time, device);
  if (nodes) report["nodes"] = nodes_json(*nodes);
  write_text_atomically(config.out, report.dump(2) + "\n");
  return 0;
}

}  // namespace vixen

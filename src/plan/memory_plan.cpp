// The bytes of every part, and the search for a way to run that fits.
#include "plan/memory_plan.hpp"

#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/check.hpp"
#include "data/graph_batch.hpp"
#include "device/device.hpp"
#include "mining/mined_lists.hpp"
#include "mining/miner.hpp"
#include "model/prototype.hpp"
#include "model/weights/backbone_weights.hpp"
#include "model/weights/model_json.hpp"
#include "objective/curriculum.hpp"
#include "objective/partial_objective.hpp"
#include "plan/snapshot_plan.hpp"
#include "prototypes/centroids.hpp"
#include "prototypes/label_prototypes.hpp"
#include "retrieval/retriever.hpp"
#include "sampling/sampler.hpp"
#include "search/device_sizes.hpp"
#include "search/sharded_search.hpp"
#include "shard/row_shards.hpp"

namespace vixen {
namespace {

constexpr int64_t kFloat = 4, kHalf = 2, kBfloat16 = 2, kIndex = 8, kId = 4;
// What a process takes beyond tensors: code, libraries and their buffers (measured on CPU); on CUDA the context, cuBLAS
// and NCCL workspaces. And the share of what comes and goes that allocators cost: fragments on CUDA; on CPU sizes
// rounded up (by a sixteenth in the mean) and free blocks that are kept (device/block_cache.hpp).
constexpr int64_t kCpuSlack = 400'000'000, kGpuSlack = 1'500'000'000;
constexpr double kGpuFragments = 0.05, kCpuFragments = 0.1875;

int64_t share(int64_t value, int64_t parts) {
  return (value + parts - 1) / parts;
}

int64_t share_of(int64_t rows, int64_t world_size) {
  return RowShards(rows, static_cast<int>(world_size)).max_rows();
}

int64_t sum_of(const std::vector<MemoryPart>& parts) {
  int64_t bytes = 0;
  for (const auto& part : parts) bytes += part.bytes;
  return bytes;
}

int64_t largest_of(const std::vector<MemoryPart>& parts) {
  int64_t bytes = 0;
  for (const auto& part : parts) bytes = std::max(bytes, part.bytes);
  return bytes;
}

int64_t scaled(int64_t value, int64_t part, int64_t whole) {
  return whole == 0 ? 0
                    : static_cast<int64_t>(std::ceil(static_cast<double>(value) * static_cast<double>(part) /
                                                     static_cast<double>(whole)));
}

// The fullest of `chunks` parts of a batch: its share and, because sequences stay whole, up to a sequence more.
BatchShape chunk_shape(const BatchShape& batch, int64_t chunks) {
  if (chunks <= 1) return batch;
  BatchShape part;
  part.positions = std::min(batch.positions, batch.positions / chunks + batch.longest);
  part.sequences = std::min(batch.sequences, scaled(batch.sequences, part.positions, batch.positions));
  part.images = scaled(batch.images, part.positions, batch.positions);
  part.sum_squared_lengths = scaled(batch.sum_squared_lengths, part.positions, batch.positions);
  part.longest = batch.longest;
  return part;
}

int64_t compute_bytes(const MemoryShape& shape) {
  return shape.config.model.compute == Compute::kBfloat16 ? kHalf : kFloat;
}

// A packed batch with its pictures, the plan's draws and relevant pairs, and what of tables its rank's columns ask for:
// free vectors and centroids (2 lists each), sums of gradients (4), the banks' rows (2 each).
int64_t input_bytes(const BatchShape& batch, int64_t image_width, int64_t columns) {
  constexpr int64_t kPairsAColumn = 16;  // more are rare, and small beside the positions
  return batch.positions * 3 * kIndex + batch.sequences * 2 * kIndex + batch.images * (image_width * kFloat + kIndex) +
         (16 + 2 * kPairsAColumn) * kIndex * columns;
}

bool uses_prototypes(const MemoryShape& shape) {
  return make_objective(shape.config)->uses_prototypes();
}

// Whether gradients travel in bfloat16 (train/gradient_reduction.hpp).
bool rounds_gradients(const MemoryShape& shape) {
  return shape.config.comm.gradients == GradientSums::kBf16 && shape.world_size > 1;
}

// The tables that may live in host memory.
std::vector<MemoryPart> table_parts(const MemoryShape& shape) {
  const int64_t w = shape.world_size, d = shape.width;
  std::vector<MemoryPart> parts;
  if (uses_prototypes(shape)) parts.push_back({"centroids", LabelPrototypes::centroid_bytes(shape.data.labels, d, w)});
  parts.push_back({"query bank (fp16)", share_of(shape.data.queries, w) * d * kHalf});
  const auto& mining = shape.config.mining;
  if (mining.columns > 0 && mining.labels == MiningLabels::kBank)
    parts.push_back({"label bank (fp16)", share_of(shape.data.labels, w) * d * kHalf});
  return parts;
}

// Whether a mining lasts while training goes on.
bool mines_behind_training(const MemoryShape& shape) {
  return shape.config.mining.columns > 0 && shape.config.mining.overlap > 0;
}

int64_t miner_bytes(const MemoryShape& shape) {
  return Miner::planned_bytes(shape.config, share_of(shape.data.labels, shape.world_size), shape.width, shape.cpu);
}

// Lists of ids, in host memory on every device.
std::vector<MemoryPart> list_parts(const MemoryShape& shape) {
  const int64_t w = shape.world_size, own_labels = share_of(shape.data.labels, w);
  return {{"training queries of own labels", (own_labels + 1) * kIndex + share(shape.data.pairs, w) * kId},
          {"lists of mined negatives", (mines_behind_training(shape) ? 2 : 1) *
                                           MinedLists::bytes(shape.config.mining, share_of(shape.data.queries, w))}};
}

// What the ranks of a node read together (comm/node_array.hpp).
std::vector<MemoryPart> node_parts(const MemoryShape& shape) {
  const int64_t queries = shape.data.queries, labels = shape.data.labels;
  constexpr int64_t kWeightCountBin = 8 + 8 + 1;
  std::vector<MemoryPart> parts = {{"order of the queries", queries * kIndex},
                                   {"clusters of the queries", queries * kId},
                                   {"weights of the labels", labels * kIndex},
                                   {"label table of an evaluation", labels * kWeightCountBin}};
  if (uses_prototypes(shape)) parts.push_back({"clusters of the labels", labels * kId});
  return parts;
}

bool tables_on_host(const MemoryShape& shape, const MemoryChoice& choice) {
  return !shape.cpu && choice.tables == TablePlacement::kHost;
}

std::vector<MemoryPart> resident_parts(const MemoryShape& shape, const MemoryChoice& choice) {
  const auto& config = shape.config;
  const int64_t e = shape.trained_elements;
  const int64_t batches = std::max<int64_t>(1, config.data.prefetch) + 2;  // in use, ready, being made
  std::vector<MemoryPart> parts = {
      {"frozen base weights", shape.frozen_bytes},
      {"trained parameters", e * kFloat},
      {"gradients", e * kFloat},
      {"optimiser moments", 2 * e * kFloat},
      {"bf16 copies of trained parameters", shape.copy_bytes},
  };
  if (rounds_gradients(shape)) parts.push_back({"rounding error of gradients", e * kFloat});
  if (uses_prototypes(shape))
    parts.push_back({"free vectors, gradients, moments",
                     LabelPrototypes::free_vector_bytes(config, shape.data.labels, shape.width, shape.world_size)});
  if (!tables_on_host(shape, choice)) {
    const auto tables = table_parts(shape);
    parts.insert(parts.end(), tables.begin(), tables.end());
  }
  if (shape.cpu) {
    const auto lists = list_parts(shape);
    parts.insert(parts.end(), lists.begin(), lists.end());
    parts.push_back({"share of what a node keeps once", share(sum_of(node_parts(shape)), shape.node_ranks)});
    for (auto& part : snapshot_parts(shape)) parts.push_back(std::move(part));
  }
  if (mines_behind_training(shape)) parts.push_back({"mining: label index, lists of a block", miner_bytes(shape)});
  parts.push_back({"batches packed ahead", batches * input_bytes(shape.batch, shape.data.image_width, shape.columns)});
  return parts;
}

PrototypeNetwork::Bytes prototype_bytes(const MemoryShape& shape, int64_t rows) {
  if (!uses_prototypes(shape)) return {};
  return PrototypeNetwork::bytes(shape.config.prototype, shape.width, rows, compute_dtype(shape.config.model),
                                 shape.cpu);
}

// Bytes of activations in a step.
struct Activations {
  int64_t kept = 0, held = 0;         // when the forward pass ends; while the loss is computed
  int64_t forward = 0, backward = 0;  // at the fullest moments of the passes
  int64_t first_forward = 0;          // of gradient caching's
  int64_t most() const { return std::max({kept, forward, backward}); }
};

Activations activations(const MemoryShape& shape, const LayeredEncoder& encoder, const MemoryChoice& choice) {
  const bool cached = choice.chunks > 1;
  const auto bytes = encoder.costs().activation_bytes(chunk_shape(shape.batch, choice.chunks), shape.cpu);
  const int64_t layers = encoder.n_layers(), again = std::min(choice.recompute_layers, layers);
  const int64_t inputs = again * bytes.recomputed_a_layer;
  Activations of;
  of.kept = (layers - again) * bytes.kept_a_layer + inputs + bytes.ends;
  // Forward: what is kept piles up, and a layer that keeps only its input meets the inputs before it.
  of.forward = std::max(of.kept, again > 0 || cached ? inputs + bytes.ends + bytes.transient_forward : 0);
  // Layers are taken back from the last one on: when the last of those that are computed again comes, all above it are
  // gone, and it keeps everything for a moment, its input once.
  of.backward = std::max(of.kept, again > 0 ? inputs - bytes.recomputed_a_layer + bytes.ends + bytes.kept_a_layer : 0) +
                bytes.transient_backward;
  of.held = cached ? 0 : of.kept;
  of.first_forward = bytes.ends + bytes.transient_forward;
  return of;
}

// Whether passes are recorded (train/recorded_passes.hpp): what they take is then there all the time.
bool records_passes(const MemoryShape& shape, const MemoryChoice& choice) {
  return !shape.cpu && shape.config.train.graph_positions > 0 && choice.chunks == 1;
}

// Of recordings: activations, which all shapes share, and of every shape the batch that others are copied to, h and its
// gradient.
int64_t recorded_bytes(const MemoryShape& shape, const LayeredEncoder& encoder, const MemoryChoice& choice) {
  return activations(shape, encoder, choice).most() +
         kMostRecordings *
             (input_bytes(shape.batch, shape.data.image_width, 0) + 2 * shape.batch.sequences * shape.width * kFloat);
}

// The fullest moment of a step.
std::vector<MemoryPart> step_parts(const MemoryShape& shape, const LayeredEncoder& encoder,
                                   const MemoryChoice& choice) {
  const auto& train = shape.config.train;
  const int64_t b = shape.rank_queries, m = shape.rank_labels, d = shape.width;
  const int64_t label_sides = uses_prototypes(shape) ? 2 : 1;  // u, and z
  const bool cached = choice.chunks > 1, recorded = records_passes(shape, choice);
  const Activations of = activations(shape, encoder, choice);
  const auto prototype = prototype_bytes(shape, m);
  const auto objective = make_objective(train.method, widest_loss(shape.config.loss, shape.columns));
  const bool sharded = objective_way(shape.config, *objective, shape.columns) == ObjectiveWay::kSharded;
  const MemoryPart scores =
      sharded ? MemoryPart{"objective (blocks of this rank's rows)",
                           partial_bytes(*objective, b, m, train.batch_size, shape.columns)}
              : MemoryPart{"objective (B x M matrices)", objective->bytes(train.batch_size, shape.columns)};
  const int64_t own = b + label_sides * m, all = train.batch_size + label_sides * shape.columns;
  const int64_t own_rows = (b + m + own) * d * kFloat;  // h and the unit rows
  const int64_t batch_rows = 2 * all * d * kFloat;      // of all ranks, and what they are gathered from
  const int64_t gradient_rows = (all + b + 2 * m) * d * kFloat;

  // Recorded passes have theirs among what is resident.
  const auto active = [&](int64_t bytes) { return recorded ? 0 : bytes; };
  const int64_t held = active(of.held), kept_then = active(std::min(of.kept, of.backward));
  const std::vector<std::vector<MemoryPart>> moments = {
      {{"activations kept for the backward pass", held},
       {"activations of the moment", active((cached ? of.first_forward : of.forward) - of.held)},
       {"embeddings", cached ? (b + m) * d * kFloat : 0}},
      {{"activations kept for the backward pass", held},
       {"prototype network", prototype.kept},
       {"embeddings", own_rows + batch_rows + all * d * kFloat},
       scores},
      {{"activations kept for the backward pass", held},
       {"prototype network", prototype.kept + prototype.moment},
       {"embeddings", own_rows + batch_rows / 2 + gradient_rows}},
      {{"activations kept for the backward pass", kept_then},
       {"activations of the moment", active(of.backward) - kept_then},
       {"embeddings", own_rows + batch_rows / 2 + gradient_rows},
       {"gradients on their way (bf16)", rounds_gradients(shape) ? shape.trained_elements * kBfloat16 : 0}},
  };
  return *std::max_element(moments.begin(), moments.end(),
                           [](const auto& less, const auto& more) { return sum_of(less) < sum_of(more); });
}

// Passes outside of steps, the largest moment of each.
std::vector<MemoryPart> pass_parts(const MemoryShape& shape, const LayeredEncoder& encoder) {
  const auto& config = shape.config;
  const int64_t w = shape.world_size, d = shape.width;
  const auto block = worst_batch(shape.data, RowShards::kBlockRows / 2, RowShards::kBlockRows / 2);
  const auto bytes = encoder.costs().activation_bytes(block, shape.cpu);
  const int64_t encode = bytes.ends + bytes.transient_forward + 2 * block.positions * d * compute_bytes(shape) +
                         4 * input_bytes(block, shape.data.image_width, 0);
  const int64_t own_labels = share_of(shape.data.labels, w), labels = own_labels * d;
  const int64_t own_queries = share_of(shape.data.queries, w);
  const int64_t test = share_of(shape.data.test_queries, w);
  const bool prime = uses_prototypes(shape);
  std::vector<MemoryPart> parts = {{"encoding the queries", encode}};
  const int64_t sampler = make_sampler(config, shape.data.queries)->end_epoch_bytes(own_queries, d, w, shape.cpu);
  if (sampler > 0) parts.push_back({"clustering the queries", sampler});
  if (prime) parts.push_back({"centroids from the query bank", update_centroids_bytes(shape.data.queries, d, w)});
  const int64_t k = std::max<int64_t>(config.evaluate.k, 100);
  // A tile of scores, on GPUs with what its search holds; between ranks the lists of a block of queries.
  const int64_t asked = std::min(queries_a_round(config.search.block_queries, k, w), std::max<int64_t>(1, test));
  const int64_t found = std::clamp<int64_t>(own_labels, 1, k);
  const int64_t searched =
      shape.cpu ? std::min(config.search.block_queries, std::max<int64_t>(1, test)) *
                      std::min(config.search.block_labels, std::max<int64_t>(1, shape.data.labels)) * kFloat
                : device_search_bytes(device_sizes(config.search, own_labels, d, found, l2_cache_bytes(at::kCPU)),
                                      w > 1 ? asked * w : test, found, d, /*row_bytes=*/0);
  const int64_t blocks = searched + (w > 1 ? list_bytes(asked, k, w) : 0);
  parts.push_back({"encoding the labels", encode + labels * kFloat});
  if (prime) {
    parts.push_back({"clustering the labels",
                     labels * kFloat + LabelPrototypes::initialise_bytes(config, own_labels, d, w, shape.cpu)});
    const auto network = prototype_bytes(shape, RowShards::kBlockRows);
    parts.push_back({"prototypes of all labels", labels * kFloat + network.kept + network.moment});
  }
  if (config.mining.columns > 0)
    parts.push_back({"mining: label index, lists of a block",
                     (mines_behind_training(shape) ? 0 : miner_bytes(shape)) + std::max(encode, blocks)});
  parts.push_back({"evaluation: label index, test queries, ranked lists",
                   labels * kFloat + Retriever::planned_bytes(config.search, own_labels, d, shape.cpu) +
                       test * (d * kFloat + 2 * k * 12) + std::max(encode, blocks)});
  return parts;
}

// dtype that the folder's weights are stored in, by config.json.
at::ScalarType stored_dtype(const std::filesystem::path& model) {
  const auto config = read_model_json(model);
  const auto name = config.contains("dtype") ? config["dtype"] : config.value("torch_dtype", nlohmann::ordered_json());
  if (name == "bfloat16") return at::kBFloat16;
  return name == "float16" ? at::kHalf : at::kFloat;
}

}  // namespace

MemoryShape memory_shape(const Config& config, const DataShape& data, const LayeredEncoder& encoder,
                         const ParameterStore& store, int64_t world_size, int64_t node_ranks, bool cpu) {
  MemoryShape shape;
  shape.config = config;
  shape.data = data;
  shape.world_size = world_size;
  shape.node_ranks = node_ranks;
  shape.cpu = cpu;
  shape.width = encoder.width();
  shape.columns = make_sampler(config, data.queries)->label_columns(config.train.batch_size) + config.mining.columns;
  shape.rank_queries = share(config.train.batch_size, world_size);
  shape.rank_labels = share(shape.columns, world_size);
  shape.batch = worst_batch(data, shape.rank_queries, shape.rank_labels);
  if (!cpu && config.train.graph_positions > 0)
    shape.batch.positions += most_filler(config.train.graph_positions, encoder.traits().max_positions);
  shape.trained_elements = store.elements();
  const auto compute = config.model.compute == Compute::kBfloat16 ? at::kBFloat16 : at::kFloat;
  const auto stored = stored_dtype(config.model.path);
  for (int i = 0; i < store.count(); ++i) {
    const auto& info = store.info(i);
    if (store.trained(i)) continue;
    const auto form = frozen_form(info, stored, compute, cpu);
    const int64_t bytes = info.elements() * static_cast<int64_t>(at::elementSize(form.dtype));
    (form.is_mapped ? shape.mapped_bytes : shape.frozen_bytes) += bytes;
  }
  if (compute == at::kBFloat16) shape.copy_bytes = store.copied_elements() * kHalf;
  return shape;
}

int64_t MemoryPlan::resident_bytes() const {
  return sum_of(resident);
}

int64_t MemoryPlan::step_bytes() const {
  return sum_of(step);
}

int64_t MemoryPlan::pass_bytes() const {
  return largest_of(passes);
}

int64_t MemoryPlan::host_bytes() const {
  return sum_of(host);
}

int64_t MemoryPlan::node_bytes() const {
  return sum_of(node);
}

int64_t MemoryPlan::tensor_bytes() const {
  return resident_bytes() + std::max(step_bytes(), pass_bytes());
}

MemoryPlan predict_memory(const MemoryShape& shape, const LayeredEncoder& encoder, const MemoryChoice& choice) {
  MemoryPlan plan;
  plan.choice = choice;
  plan.objective = objective_way(shape.config, *make_objective(shape.config), shape.columns);
  plan.resident = resident_parts(shape, choice);
  if (records_passes(shape, choice))
    plan.resident.push_back({"recorded passes", recorded_bytes(shape, encoder, choice)});
  if (!shape.cpu) {
    plan.host = list_parts(shape);
    for (auto& part : snapshot_parts(shape)) plan.host.push_back(std::move(part));
    if (tables_on_host(shape, choice))
      for (auto& part : table_parts(shape)) plan.host.push_back(std::move(part));
  }
  plan.node = node_parts(shape);
  plan.step = step_parts(shape, encoder, choice);
  plan.passes = pass_parts(shape, encoder);
  plan.mapped_bytes = shape.mapped_bytes;
  const auto moving = static_cast<double>(std::max(plan.step_bytes(), plan.pass_bytes()));
  plan.slack_bytes = shape.cpu ? kCpuSlack + static_cast<int64_t>(kCpuFragments * moving)
                               : kGpuSlack + static_cast<int64_t>(kGpuFragments * moving);
  return plan;
}

int64_t most_chunks(const MemoryShape& shape) {
  return std::max<int64_t>(1, shape.batch.sequences);
}

MemoryPlan plan_memory(const MemoryShape& shape, const LayeredEncoder& encoder, int64_t budget_bytes, bool of_device) {
  const auto& train = shape.config.train;
  const int64_t layers = encoder.n_layers(), most = most_chunks(shape);
  if (train.recompute_layers > layers)
    fail_user("train.recompute_layers is {}, the model has {} layers in use", train.recompute_layers, layers);
  if (train.chunks > most) fail_user("train.chunks is {}, a rank's batch has {} sequences", train.chunks, most);
  const bool layers_fixed = train.recompute_layers >= 0, chunks_fixed = train.chunks > 0;
  const int64_t fewest_layers = layers_fixed ? train.recompute_layers : 0;
  const int64_t most_layers = layers_fixed ? train.recompute_layers : layers;
  const int64_t fewest = chunks_fixed ? train.chunks : 1, largest = chunks_fixed ? train.chunks : most;
  const bool tables_free = train.tables == TableHome::kAuto && !shape.cpu;
  auto tables = train.tables == TableHome::kHost ? TablePlacement::kHost : TablePlacement::kDevice;
  const auto predict = [&](int64_t recompute, int64_t chunks) {
    auto made = predict_memory(shape, encoder, {recompute, chunks, tables});
    made.budget_bytes = budget_bytes;
    return made;
  };
  const auto fits = [&](const MemoryPlan& made) { return budget_bytes == 0 || made.peak_bytes() <= budget_bytes; };
  auto plan = predict(fewest_layers, fewest);
  if (fits(plan)) return plan;
  if (tables_free) tables = TablePlacement::kHost;
  const auto found = [&](int64_t recompute, int64_t chunks) {
    plan = predict(recompute, chunks);
    if (!fits(plan)) return false;
    if (tables_free) {
      tables = TablePlacement::kDevice;
      if (auto same = predict(recompute, chunks); fits(same)) plan = std::move(same);
    }
    return true;
  };
  for (int64_t recompute = fewest_layers; recompute <= most_layers; ++recompute)
    if (found(recompute, fewest)) return plan;
  for (const int64_t recompute : {fewest_layers, most_layers})
    for (int64_t chunks = fewest + 1; chunks <= largest; ++chunks)
      if (found(recompute, chunks)) return plan;
  plan = predict(most_layers, largest);
  const auto gb = [](int64_t bytes) { return std::ceil(static_cast<double>(bytes) / 1e7) / 100; };
  fail_user(
      "{} of {:.2f} GB a rank: expected at least {:.2f} GB for this model, batch and data ({:.2f} GB are there all the "
      "time): use more ranks, a smaller train.batch_size{} or {}",
      of_device ? "free memory of the device" : "memory budget", static_cast<double>(budget_bytes) / 1e9,
      gb(plan.peak_bytes()), gb(plan.resident_bytes()),
      shape.cpu && shape.config.run.checkpoint_async ? ", run.checkpoint_async = false" : "",
      of_device ? "a device with more of it free" : "a larger budget (train.memory_gb)");
}

std::string choice_text(const MemoryPlan& plan, int64_t n_layers) {
  const auto& choice = plan.choice;
  std::vector<std::string> ways;
  if (choice.tables == TablePlacement::kHost && !plan.host.empty())
    ways.push_back("query bank and centroids in host memory");
  if (choice.chunks > 1) ways.push_back(fmt::format("gradient caching in {} chunks", choice.chunks));
  if (choice.recompute_layers > 0)
    ways.push_back(
        fmt::format("{} of {} layers computed again in the backward pass", choice.recompute_layers, n_layers));
  if (choice.chunks <= 1 && choice.recompute_layers == 0) ways.push_back("all activations are kept");
  if (plan.objective == ObjectiveWay::kSharded) ways.push_back("the objective's rows sharded over ranks");
  return fmt::format("{}", fmt::join(ways, ", "));
}

std::string memory_table(const MemoryPlan& plan, int64_t n_layers) {
  std::string text;
  const auto line = [&](const std::string& name, int64_t bytes) {
    text += fmt::format("  {:<52} {:>10.3f}\n", name, static_cast<double>(bytes) / 1e9);
  };
  const auto group = [&](const std::string& name, const std::vector<MemoryPart>& parts, int64_t bytes) {
    line(name, bytes);
    for (const auto& part : parts)
      if (part.bytes > 0) line("  " + part.name, part.bytes);
  };
  group("held all the time", plan.resident, plan.resident_bytes());
  group("a step at its fullest", plan.step, plan.step_bytes());
  group("passes outside of steps (the largest counts)", plan.passes, plan.pass_bytes());
  line("libraries and allocator", plan.slack_bytes);
  line("peak of a rank", plan.peak_bytes());
  if (plan.budget_bytes > 0) line("budget", plan.budget_bytes);
  if (!plan.host.empty()) group("in host memory, not counted", plan.host, plan.host_bytes());
  group("in host memory once a node, not counted", plan.node, plan.node_bytes());
  if (plan.mapped_bytes > 0) line("mapped from disk, not counted", plan.mapped_bytes);
  return fmt::format("{}: memory of a rank in GB\n{}", choice_text(plan, n_layers), text);
}

}  // namespace vixen

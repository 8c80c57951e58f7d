// The step. Autograd never crosses a collective: the objective hands explicit gradients back to each rank's rows.
//   b queries and m labels of this rank, B and M of the batch; h [b + m, D] queries then labels; q [b, D], u, z [m, D]
//   unit rows
#include "train/train_step.hpp"

#include <ATen/ATen.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "base/check.hpp"
#include "base/lap.hpp"
#include "device/phase.hpp"
#include "device/transfer.hpp"
#include "model/pack_options.hpp"
#include "objective/curriculum.hpp"
#include "train/batch_objective.hpp"
#include "train/chunked_encoder.hpp"

namespace vixen {
namespace {

// Sum of squares in float64, device scalar; in pieces, because the squares of all gradients would take their memory
// three times over.
at::Tensor sum_of_squares(const at::Tensor& values) {
  constexpr int64_t kPiece = int64_t{1} << 22;
  const auto flat = values.flatten();
  auto sum = at::zeros({}, flat.options().dtype(at::kDouble));
  for (int64_t first = 0; first < flat.numel(); first += kPiece)
    sum.add_(flat.narrow(0, first, std::min(kPiece, flat.numel() - first)).square().sum(at::kDouble));
  return sum;
}

// The encoder's passes of a step: recorded ones, or as they are.
class StepPasses {
 public:
  StepPasses(Encoder& encoder, RecordedPasses* recorded, const StepInput& input, const PassContext& context)
      : recorded_(input.graph ? recorded : nullptr), input_(&input), context_(context) {
    if (recorded_ == nullptr) chunked_.emplace(encoder, input.chunks, context);
  }
  at::Tensor forward() {
    if (chunked_) return chunked_->forward();
    return recorded_->forward(input_->chunks[0], *input_->graph, input_->queries.size() + input_->labels.size(),
                              context_);
  }
  void backward(const at::Tensor& grad_h, const std::function<void(int, int)>& on_ready) {
    if (chunked_) return chunked_->backward(grad_h, on_ready);
    recorded_->backward(grad_h, on_ready);
  }

 private:
  RecordedPasses* recorded_;
  const StepInput* input_;
  PassContext context_;
  std::optional<ChunkedEncoder> chunked_;
};

std::unique_ptr<RecordedPasses> make_recorded_passes(const StepParts& parts) {
  if (parts.config.train.graph_positions == 0) return nullptr;
  const auto off = [&](const std::string& why) {
    if (parts.comm.rank() == 0) spdlog::info("train.graph_positions: {}, so that passes run as they are", why);
    return nullptr;
  };
  const at::Device device = parts.comm.device();
  if (!parts.encoder.is_recordable())
    fail_user("train.graph_positions is {}, but passes with model.fusion = late cannot be recorded: expected 0",
              parts.config.train.graph_positions);
  if (parts.chunks > 1) return off(fmt::format("a batch comes in {} chunks", parts.chunks));
  if (make_work_graph_pool(device) == nullptr) return off(fmt::format("there are no graphs on {}", device.str()));
  return std::make_unique<RecordedPasses>(parts.encoder, device, parts.comm.world_size() > 1);
}

}  // namespace

void StepInput::join() const {
  std::vector<at::Tensor> tensors = {prototype_keys,
                                     positives,
                                     free_vectors.rows,
                                     free_vectors.places,
                                     centroids.rows,
                                     centroids.places,
                                     free_vector_grads.order,
                                     free_vector_grads.places,
                                     free_vector_grads.starts,
                                     free_vector_grads.targets,
                                     bank.sources,
                                     bank.targets,
                                     label_bank.sources,
                                     label_bank.targets};
  tensors.insert(tensors.end(), draws.begin(), draws.end());
  for (const PackedBatch& chunk : chunks) chunk.append_tensors(tensors);
  arrival.join(tensors);
}

TrainStep::TrainStep(const StepParts& parts)
    : parts_(parts),
      recorded_(make_recorded_passes(parts)),
      copies_(parts.comm.device()),
      reduction_(parts.config.comm, parts.store, parts.comm) {
  if (parts_.prototypes != nullptr) free_vector_grad_ = at::zeros_like(parts_.prototypes->free_vectors().local());
}

StepInput TrainStep::prepare(BatchPlan plan, const Dataset& dataset, const PackOptions& pack) const {
  const auto& comm = parts_.comm;
  const auto slice = [&](const std::vector<int64_t>& rows) {
    return batch_slice(static_cast<int64_t>(rows.size()), comm.rank(), comm.world_size());
  };
  StepInput input;
  input.queries = slice(plan.query_rows);
  input.labels = slice(plan.label_rows);
  const auto own = [](const std::vector<int64_t>& rows, const RowRange& range) {
    return std::span(rows).subspan(static_cast<size_t>(range.begin), static_cast<size_t>(range.size()));
  };
  const auto queries = own(plan.query_rows, input.queries), labels = own(plan.label_rows, input.labels);

  // Dropout keys: places in the global batch, queries 0.., labels B.., prototypes B + M.. (B, M of a full batch).
  const int64_t first_label = parts_.config.train.batch_size, first_prototype = first_label + parts_.columns;
  const PackPiece pieces[] = {{&dataset.train(), queries, input.queries.begin},
                              {&dataset.labels(), labels, first_label + input.labels.begin}};
  const Phase phase("batch made ahead");
  const CopyStream::Scope copying(copies_);
  const auto options = training_pack_options(pack, parts_.config.train, plan.step);
  PackedBatch batch = pack_batch(pieces, dataset.images(), options);
  input.n_positions = batch.n_positions();
  if (recorded_ && batch.n_sequences() > 0) {
    input.graph = graph_shape(batch, parts_.config.train.graph_positions, parts_.encoder.traits().max_positions);
    batch = fill_batch(batch, *input.graph);
  }
  input.chunks = split_batch(batch, parts_.chunks);
  const auto device = comm.device();
  for (auto& chunk : input.chunks) chunk = chunk.to(device);
  if (auto* prototypes = parts_.prototypes) {
    const auto clusters = prototypes->clusters_of(at::tensor(plan.label_rows, at::kLong));
    const std::span of_labels(clusters.const_data_ptr<int64_t>(), plan.label_rows.size());
    input.free_vectors = prototypes->free_vectors().plan_gather(of_labels);
    input.free_vector_grads = prototypes->free_vectors().plan_scatter_add(of_labels);
    input.centroids = prototypes->centroids().plan_gather(plan.label_rows);
    input.prototype_keys = to_device(
        at::arange(first_prototype + input.labels.begin, first_prototype + input.labels.end, at::kLong), device);
  }
  input.positives = to_device(plan.positives, device);
  for (const auto& draw : plan.draws) input.draws.push_back(to_device(draw, device));
  input.bank = parts_.bank.plan_assign(plan.query_rows);
  if (parts_.label_bank != nullptr) input.label_bank = parts_.label_bank->plan_assign(plan.label_rows);
  input.arrival = copies_.mark();
  input.plan = std::move(plan);
  return input;
}

StepResult TrainStep::accumulate(const StepInput& input, bool logged) {
  const PassContext context{true, parts_.config.train.seed, input.plan.step};
  const int64_t b = input.queries.size(), m = input.labels.size();
  StepResult result;
  Lap lap;
  Phase phase("forward");
  input.join();

  // Forward of this rank's rows; with several chunks nothing is kept but h.
  parts_.store.zero_grads();
  StepPasses encoder(parts_.encoder, recorded_.get(), input, context);
  DeviceTimer timer(parts_.comm.device());
  if (logged) timer.start();
  const auto h = encoder.forward();
  if (logged) timer.stop();
  const auto q = normalize_rows(h.narrow(0, 0, b));
  const auto u = normalize_rows(h.narrow(0, b, m));
  std::unique_ptr<PrototypeNetwork::Saved> saved;
  const auto z = prototypes(input, h.narrow(0, b, m), context, &saved);
  lap(result.seconds.forward);

  // The unit rows of the whole batch on every rank, its loss, this rank's rows of the gradients.
  phase.next("gather of the batch");
  const auto [all_q, all_u, all_z] = gather_batch(input, q, u, z);
  lap(result.seconds.collectives);
  phase.next("objective");
  const auto softened = objective_of(input.plan.step);
  const auto& objective = softened ? *softened : parts_.objective;
  const auto loss = evaluate_batch(objective, parts_.way, {all_q, all_u, all_z, input.positives, input.draws},
                                   input.plan, parts_.comm);

  phase.next("backward");
  // Backward, the prototype's first; finished ranges are reduced while the rest is computed.
  const auto reduce = [&](int first, int last) { reduction_.ready(first, last); };
  auto grad_u = normalize_rows_backward(loss.grad_u, u);
  if (parts_.prototypes != nullptr) {
    auto& network = parts_.prototypes->network();
    const auto grad = network.backward(normalize_rows_backward(loss.grad_z, z), context, *saved);
    grad_u.add_(grad.u);
    free_vector_grad_.zero_();
    parts_.prototypes->free_vectors().scatter_add(input.free_vector_grads, grad.f, free_vector_grad_);
    reduce(network.first_parameter(), network.last_parameter());
  }
  const auto grad_h = at::cat({normalize_rows_backward(loss.grad_q, q), grad_u}, 0);
  if (logged) timer.start();
  encoder.backward(grad_h, reduce);
  if (logged) timer.stop();
  lap(result.seconds.backward);
  phase.next("sums of gradients, banks");
  reduction_.finish();
  parts_.bank.assign_replicated(input.bank, all_q);
  if (parts_.label_bank != nullptr) parts_.label_bank->assign_replicated(input.label_bank, all_u);
  lap(result.seconds.collectives);

  if (logged) {
    result.encoder = std::move(timer);
    result.queries = spread_of(all_q);
    result.labels = spread_of(all_u);
  }
  result.loss = loss.loss;
  result.terms = loss.terms;
  return result;
}

std::unique_ptr<Objective> TrainStep::objective_of(uint64_t step) const {
  const auto& config = parts_.config;
  const auto at = static_cast<int64_t>(step);
  return at < config.loss.soft_steps ? make_objective(config.train.method, loss_at(config.loss, at, parts_.columns))
                                     : nullptr;
}

Normalized TrainStep::prototypes(const StepInput& input, const at::Tensor& u, const PassContext& context,
                                 std::unique_ptr<PrototypeNetwork::Saved>* saved) {
  if (parts_.prototypes == nullptr) return {};
  const auto free = parts_.prototypes->free_vectors().gather(input.free_vectors);
  const auto centroid = parts_.prototypes->centroids().gather(input.centroids);
  return normalize_rows(parts_.prototypes->network().forward(u, free, centroid, input.prototype_keys, context, saved));
}

std::array<at::Tensor, 3> TrainStep::gather_batch(const StepInput& input, const Normalized& q, const Normalized& u,
                                                  const Normalized& z) {
  // One collective: each rank's rows of q, u and z below one another.
  std::vector<at::Tensor> sides = {q.y, u.y};
  if (z.y.defined()) sides.push_back(z.y);
  const int world_size = parts_.comm.world_size();
  const auto rows_of = [&](size_t side, int rank) {
    const auto& rows = side == 0 ? input.plan.query_rows : input.plan.label_rows;
    return batch_slice(static_cast<int64_t>(rows.size()), rank, world_size).size();
  };
  std::vector<int64_t> rows(static_cast<size_t>(world_size), 0);
  for (int rank = 0; rank < world_size; ++rank)
    for (size_t side = 0; side < sides.size(); ++side) rows[static_cast<size_t>(rank)] += rows_of(side, rank);
  const auto all = parts_.comm.all_gather_rows(at::cat(sides, 0), rows);  // [B + M or 2 M, D]

  std::array<std::vector<at::Tensor>, 3> pieces;
  int64_t first = 0;
  for (int rank = 0; rank < world_size; ++rank)
    for (size_t side = 0; side < sides.size(); ++side) {
      pieces[side].push_back(all.narrow(0, first, rows_of(side, rank)));
      first += rows_of(side, rank);
    }
  std::array<at::Tensor, 3> whole;
  for (size_t side = 0; side < sides.size(); ++side)
    whole[side] = world_size == 1 ? pieces[side].front() : at::cat(pieces[side], 0);
  return whole;
}

void TrainStep::update(double lr_factor, bool want_norm, StepResult& result) {
  Lap lap;
  const Phase phase("update");
  const double clip_norm = parts_.config.train.clip_norm;
  at::Tensor scale;
  if (want_norm || clip_norm > 0) {
    auto square = sum_of_squares(parts_.store.flat_grads());
    if (parts_.prototypes != nullptr) {
      // Free vectors are sharded: their part of the norm is summed over ranks.
      auto table_square = sum_of_squares(free_vector_grad_).reshape({1});
      parts_.comm.all_reduce_sum(table_square);
      square = square + table_square.squeeze(0);
    }
    result.grad_norm = square.sqrt().to(at::kFloat);
    if (clip_norm > 0) scale = (clip_norm / (result.grad_norm + 1e-6)).clamp_max(1.0);
  }
  parts_.optimiser.step(lr_factor, free_vector_grad_, scale);
  lap(result.seconds.optimiser);
}

}  // namespace vixen

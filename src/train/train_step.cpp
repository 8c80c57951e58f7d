// The step. Autograd never crosses a collective: the objective hands explicit gradients back to each rank's rows.
//   b rows of this rank, B of the batch; h [2b, D] queries then labels; q, u, z [b, D] unit rows
#include "train/train_step.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <vector>

#include "device/transfer.hpp"
#include "train/chunked_encoder.hpp"
#include "model/pack_options.hpp"

namespace vixen {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Adds the time since its last call (or its making) to a phase.
class Lap {
 public:
  void operator()(double& seconds) {
    const auto now = std::chrono::steady_clock::now();
    seconds += std::chrono::duration<double>(now - last_).count();
    last_ = now;
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

std::vector<int64_t> rows_of_ranks(int64_t batch_rows, int world_size) {
  std::vector<int64_t> rows(static_cast<size_t>(world_size));
  for (int rank = 0; rank < world_size; ++rank)
    rows[static_cast<size_t>(rank)] = batch_slice(batch_rows, rank, world_size).size();
  return rows;
}

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

}  // namespace

TrainStep::TrainStep(const Config& config, ParameterStore& store, Encoder& encoder, LabelPrototypes* prototypes,
                     ShardedTable& bank, AdamW& optimiser, int64_t chunks, Communicator& comm)
    : config_(&config),
      store_(&store),
      encoder_(&encoder),
      prototypes_(prototypes),
      bank_(&bank),
      optimiser_(&optimiser),
      chunks_(chunks),
      comm_(&comm) {
  if (prototypes_ != nullptr) free_vector_grad_ = at::zeros_like(prototypes_->free_vectors().local());
}

StepInput TrainStep::prepare(BatchPlan plan, const Dataset& dataset, const PackOptions& pack) const {
  StepInput input;
  const auto rows = static_cast<int64_t>(plan.query_rows.size());
  const auto device = comm_->device();
  input.slice = batch_slice(rows, comm_->rank(), comm_->world_size());
  const auto first = static_cast<size_t>(input.slice.begin);
  const auto count = static_cast<size_t>(input.slice.size());
  const std::span<const int64_t> queries{plan.query_rows.data() + first, count};
  const std::span<const int64_t> labels{plan.label_rows.data() + first, count};

  // Dropout keys: places in the global batch, queries 0.., labels B.., prototypes 2B.. (B as configured).
  const int64_t batch_size = config_->train.batch_size;
  const PackPiece pieces[] = {{&dataset.train(), queries, input.slice.begin},
                              {&dataset.labels(), labels, batch_size + input.slice.begin}};
  const auto options = training_pack_options(pack, config_->train, plan.step);
  input.chunks = split_batch(pack_batch(pieces, dataset.images(), options), chunks_);
  for (auto& chunk : input.chunks) chunk = chunk.to(device);
  input.label_ids = at::tensor(at::IntArrayRef(labels.data(), labels.size()), at::kLong);
  if (prototypes_ != nullptr) {
    input.clusters = prototypes_->clusters_of(input.label_ids);
    input.prototype_keys =
        to_device(at::arange(2 * batch_size + input.slice.begin, 2 * batch_size + input.slice.end, at::kLong), device);
  }
  input.positives = to_device(plan.positives, device);
  input.draws = {to_device(plan.draws.u, device), to_device(plan.draws.i, device), to_device(plan.draws.uv, device),
                 to_device(plan.draws.r, device)};
  input.bank_rows = at::tensor(plan.query_rows, at::kLong);
  input.plan = std::move(plan);
  return input;
}

StepResult TrainStep::accumulate(const StepInput& input) {
  const PassContext context{true, config_->train.seed, input.plan.step};
  const int64_t b = input.slice.size();
  StepResult result;
  Lap lap;

  // Forward of this rank's rows; with several chunks nothing is kept but h.
  store_->zero_grads();
  ChunkedEncoder encoder(*encoder_, input.chunks, context);
  const auto h = encoder.forward();
  const auto q = normalize_rows(h.narrow(0, 0, b));
  const auto u = normalize_rows(h.narrow(0, b, b));
  std::unique_ptr<PrototypeNetwork::Saved> saved;
  const auto z = prototypes(input, h.narrow(0, b, b), context, &saved);
  lap(result.forward_seconds);

  // The whole batch on every rank, the whole loss, this rank's rows of its gradients.
  const auto all = gather_batch(input, q, u, z);  // q, u and, with prototypes, z [B, D]
  lap(result.collective_seconds);
  const auto loss =
      objective(all[0], all[1], all[2], input.positives, input.draws, config_->train.method, config_->loss);
  const auto own = [&](const at::Tensor& grad) { return grad.narrow(0, input.slice.begin, b); };

  // Backward, the prototype's first; finished ranges are reduced while the rest is computed.
  std::vector<std::unique_ptr<CommHandle>> reductions;
  const auto reduce = [&](int first, int last) {
    if (auto started = reduce_gradients(first, last)) reductions.push_back(std::move(started));
  };
  auto grad_u = normalize_rows_backward(own(loss.grad_u), u);
  if (prototypes_ != nullptr) {
    auto& network = prototypes_->network();
    const auto grad = network.backward(normalize_rows_backward(own(loss.grad_z), z), context, *saved);
    grad_u.add_(grad.u);
    free_vector_grad_.zero_();
    prototypes_->free_vectors().scatter_add(input.clusters, grad.f, free_vector_grad_);
    reduce(network.first_parameter(), network.last_parameter());
  }
  encoder.backward(at::cat({normalize_rows_backward(own(loss.grad_q), q), grad_u}, 0), reduce);
  lap(result.backward_seconds);
  for (auto& reduction : reductions) reduction->wait();
  bank_->assign_replicated(input.bank_rows, all[0]);
  lap(result.collective_seconds);

  result.loss = loss.loss;
  result.loss_u = loss.loss_u;
  result.loss_uv = loss.loss_uv;
  result.loss_i = loss.loss_i;
  result.loss_r = loss.loss_r;
  return result;
}

Normalized TrainStep::prototypes(const StepInput& input, const at::Tensor& u, const PassContext& context,
                                 std::unique_ptr<PrototypeNetwork::Saved>* saved) {
  if (prototypes_ == nullptr) return {};
  const auto free = prototypes_->free_vectors().gather(input.clusters);
  const auto centroid = prototypes_->centroids().gather(input.label_ids);
  return normalize_rows(prototypes_->network().forward(u, free, centroid, input.prototype_keys, context, saved));
}

std::array<at::Tensor, 3> TrainStep::gather_batch(const StepInput& input, const Normalized& q, const Normalized& u,
                                                  const Normalized& z) {
  std::vector<at::Tensor> parts = {q.y, u.y};
  if (z.y.defined()) parts.push_back(z.y);
  const auto rows = rows_of_ranks(static_cast<int64_t>(input.plan.query_rows.size()), comm_->world_size());
  const auto all = comm_->all_gather_rows(at::cat(parts, 1), rows);  // [B, 2D or 3D]
  std::array<at::Tensor, 3> columns;
  for (size_t i = 0; i < parts.size(); ++i)
    columns[i] = all.narrow(1, static_cast<int64_t>(i) * encoder_->width(), encoder_->width()).contiguous();
  return columns;
}

std::unique_ptr<CommHandle> TrainStep::reduce_gradients(int first, int last) {
  if (comm_->world_size() == 1 || first >= last) return nullptr;
  const int64_t begin = store_->info(first).offset;
  const int64_t end = store_->info(last - 1).offset + store_->info(last - 1).size;
  if (begin >= end) return nullptr;  // frozen ones only
  return comm_->all_reduce_sum_async(store_->flat_grads().narrow(0, begin, end - begin));
}

void TrainStep::update(double lr_factor, bool want_norm, StepResult& result) {
  const auto clock = std::chrono::steady_clock::now();
  at::Tensor scale;
  if (want_norm || config_->train.clip_norm > 0) {
    auto square = sum_of_squares(store_->flat_grads());
    if (prototypes_ != nullptr) {
      // Free vectors are sharded: their part of the norm is summed over ranks.
      auto table_square = sum_of_squares(free_vector_grad_).reshape({1});
      comm_->all_reduce_sum(table_square);
      square = square + table_square.squeeze(0);
    }
    result.grad_norm = square.sqrt().to(at::kFloat);
    if (config_->train.clip_norm > 0) scale = (config_->train.clip_norm / (result.grad_norm + 1e-6)).clamp_max(1.0);
  }
  optimiser_->step(lr_factor, free_vector_grad_, scale);
  result.optimiser_seconds = seconds_since(clock);
}

}  // namespace vixen

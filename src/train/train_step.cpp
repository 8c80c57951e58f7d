// The step. Autograd never crosses a collective: the objective hands explicit gradients back to each rank's rows.
//   b rows of this rank, B of the batch; h [2b, D] queries then labels; q, u, z [b, D] unit rows
#include "train/train_step.hpp"

#include <ATen/ATen.h>

#include <chrono>
#include <numeric>
#include <vector>

#include "base/check.hpp"
#include "kernels/pooling.hpp"

namespace vixen {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::vector<int64_t> rows_of_ranks(int64_t batch_rows, int world_size) {
  std::vector<int64_t> rows(static_cast<size_t>(world_size));
  for (int rank = 0; rank < world_size; ++rank)
    rows[static_cast<size_t>(rank)] = batch_slice(batch_rows, rank, world_size).size();
  return rows;
}

at::Tensor to_device(const at::Tensor& host, at::Device device) {
  if (device.is_cpu()) return host;
  return host.pin_memory().to(device, /*non_blocking=*/true);
}

}  // namespace

TrainStep::TrainStep(const Config& config, ParameterStore& store, Encoder& encoder, LabelPrototypes* prototypes,
                     ShardedTable& bank, AdamW& optimiser, Communicator& comm)
    : config_(&config),
      store_(&store),
      encoder_(&encoder),
      prototypes_(prototypes),
      bank_(&bank),
      optimiser_(&optimiser),
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
  input.batch = pack_batch(pieces, dataset.images(), pack).to(device);
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
  const int64_t width = encoder_->width();
  StepResult result;
  auto clock = std::chrono::steady_clock::now();
  const auto lap = [&clock](double& seconds) {
    seconds += seconds_since(clock);
    clock = std::chrono::steady_clock::now();
  };

  // Forward of this rank's rows.
  store_->zero_grads();
  std::unique_ptr<Encoder::Saved> saved;
  const auto h = encoder_->forward(input.batch, context, &saved);
  const auto q = normalize_rows(h.narrow(0, 0, b));
  const auto u_raw = h.narrow(0, b, b);
  const auto u = normalize_rows(u_raw);
  std::vector<at::Tensor> parts = {q.y, u.y};
  Normalized z;
  std::unique_ptr<PrototypeNetwork::Saved> prototype_saved;
  if (prototypes_ != nullptr) {
    const auto free = prototypes_->free_vectors().gather(input.clusters);
    const auto centroid = prototypes_->centroids().gather(input.label_ids);
    z = normalize_rows(
        prototypes_->network().forward(u_raw, free, centroid, input.prototype_keys, context, &prototype_saved));
    parts.push_back(z.y);
  }
  lap(result.forward_seconds);

  // The whole batch on every rank, the whole loss, this rank's rows of its gradients.
  const auto rows = rows_of_ranks(static_cast<int64_t>(input.plan.query_rows.size()), comm_->world_size());
  const auto all = comm_->all_gather_rows(at::cat(parts, 1), rows);  // [B, 2D or 3D]
  lap(result.collective_seconds);
  const auto column = [&](int64_t i) {
    return static_cast<int64_t>(parts.size()) > i ? all.narrow(1, i * width, width).contiguous() : at::Tensor();
  };
  const auto loss =
      objective(column(0), column(1), column(2), input.positives, input.draws, config_->train.method, config_->loss);
  const auto own = [&](const at::Tensor& grad) { return grad.narrow(0, input.slice.begin, b); };

  // Backward, the prototype's first; finished ranges are reduced while the rest is computed.
  std::vector<std::unique_ptr<CommHandle>> reductions;
  const auto reduce = [&](int first, int last) {
    if (comm_->world_size() == 1 || first >= last) return;
    const int64_t begin = store_->info(first).offset;
    const int64_t end = store_->info(last - 1).offset + store_->info(last - 1).size;
    reductions.push_back(comm_->all_reduce_sum_async(store_->flat_grads().narrow(0, begin, end - begin)));
  };
  auto grad_u = normalize_rows_backward(own(loss.grad_u), u);
  if (prototypes_ != nullptr) {
    const auto grad =
        prototypes_->network().backward(normalize_rows_backward(own(loss.grad_z), z), context, *prototype_saved);
    grad_u.add_(grad.u);
    free_vector_grad_.zero_();
    prototypes_->free_vectors().scatter_add(input.clusters, grad.f, free_vector_grad_);
    reduce(prototypes_->network().first_parameter(), prototypes_->network().last_parameter());
  }
  const auto grad_h = at::cat({normalize_rows_backward(own(loss.grad_q), q), grad_u}, 0);
  encoder_->backward(grad_h, input.batch, context, *saved, reduce);
  lap(result.backward_seconds);
  for (auto& reduction : reductions) reduction->wait();
  bank_->assign_replicated(input.bank_rows, column(0));
  lap(result.collective_seconds);

  result.loss = loss.loss;
  result.loss_u = loss.loss_u;
  result.loss_uv = loss.loss_uv;
  result.loss_i = loss.loss_i;
  result.loss_r = loss.loss_r;
  return result;
}

void TrainStep::update(double lr_factor, bool want_norm, StepResult& result) {
  const auto clock = std::chrono::steady_clock::now();
  at::Tensor scale;
  if (want_norm || config_->train.clip_norm > 0) {
    auto square = store_->flat_grads().square().sum(at::kDouble);
    if (prototypes_ != nullptr) {
      // Free vectors are sharded: their part of the norm is summed over ranks.
      auto table_square = free_vector_grad_.square().sum(at::kDouble).reshape({1});
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

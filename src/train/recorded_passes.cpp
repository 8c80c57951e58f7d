#include "train/recorded_passes.hpp"

#include <ATen/ATen.h>

#include <utility>

#include "base/check.hpp"
#include "kernels/choice.hpp"

namespace vixen {

struct RecordedPasses::Recording {
  PackedBatch input;     // whose tensors every batch of the shape is copied to
  at::Tensor step;       // int64 [1] on the device: dropout's
  at::Tensor h, grad_h;  // [shape.sequences, D]
  std::unique_ptr<WorkGraphPool::Graph> forward;
  struct Piece {
    std::unique_ptr<WorkGraphPool::Graph> graph;
    std::vector<std::pair<int, int>> announced;  // behind it
  };
  std::vector<Piece> backward;
  std::unique_ptr<Encoder::Saved> saved;  // until the backward pass is recorded
  int64_t last_use = 0;
};

namespace {

// Members of a batch that passes read on the device.
constexpr at::Tensor PackedBatch::*kRead[] = {&PackedBatch::tokens,          &PackedBatch::position_ids,
                                              &PackedBatch::cu_seqlens,      &PackedBatch::image_embeddings,
                                              &PackedBatch::image_positions, &PackedBatch::text_positions,
                                              &PackedBatch::sequence_keys};

void copy_batch(const PackedBatch& from, PackedBatch& to) {
  for (at::Tensor PackedBatch::*member : kRead)
    if ((from.*member).defined()) (to.*member).copy_(from.*member, /*non_blocking=*/true);
}

}  // namespace

RecordedPasses::RecordedPasses(Encoder& encoder, at::Device device, bool announces)
    : encoder_(&encoder), device_(device), announces_(announces), pool_(make_work_graph_pool(device)) {
  VIXEN_CHECK(pool_ != nullptr, "no work graphs on {}", device.str());
}

RecordedPasses::~RecordedPasses() = default;

at::Tensor RecordedPasses::forward(const PackedBatch& filled, const GraphShape& shape, int64_t n,
                                   const PassContext& context) {
  VIXEN_CHECK(context.training && filled.n_positions() == shape.positions && filled.n_sequences() == shape.sequences,
              "{} positions, a shape of {}", filled.n_positions(), shape.positions);
  batch_ = filled;
  context_ = context;
  n_ = n;
  const auto [at, is_new] = shapes_.try_emplace(shape);
  if (is_new) {
    current_ = nullptr;
    return encoder_->forward(batch_, context_, &saved_).narrow(0, 0, n);
  }
  if (at->second == nullptr) {
    drop_oldest();
    at->second = std::make_unique<Recording>();
    make_operands(*at->second);
  }
  current_ = at->second.get();
  current_->last_use = replays_;
  copy_batch(batch_, current_->input);
  current_->step.fill_(static_cast<int64_t>(context.step));
  if (current_->forward == nullptr) record_forward(*current_);
  current_->forward->replay();
  ++replays_;
  return current_->h.narrow(0, 0, n);
}

void RecordedPasses::drop_oldest() {
  int64_t kept = 0;
  std::unique_ptr<Recording>* oldest = nullptr;
  for (auto& [shape, recording] : shapes_) {
    if (recording == nullptr) continue;
    ++kept;
    if (oldest == nullptr || recording->last_use < (*oldest)->last_use) oldest = &recording;
  }
  if (kept >= kMostRecordings) oldest->reset();
}

void RecordedPasses::make_operands(Recording& recording) const {
  recording.input = batch_;
  for (at::Tensor PackedBatch::*member : kRead)
    if ((batch_.*member).defined()) recording.input.*member = at::empty_like(batch_.*member);
  recording.step = at::empty({1}, at::dtype(at::kLong).device(device_));
}

void RecordedPasses::record_forward(Recording& recording) {
  context_.device_step = recording.step.const_data_ptr<int64_t>();
  const Recordable only;
  pool_->begin();
  recording.h = encoder_->forward(recording.input, context_, &recording.saved);
  recording.forward = pool_->end();
  ++recordings_;
}

void RecordedPasses::backward(const at::Tensor& grad_h, const std::function<void(int, int)>& on_ready) {
  if (current_ == nullptr) {
    at::Tensor all = at::zeros({batch_.n_sequences(), grad_h.size(1)}, grad_h.options());
    all.narrow(0, 0, n_).copy_(grad_h);
    encoder_->backward(all, batch_, context_, *saved_, on_ready);
    saved_.reset();
    batch_ = {};
    return;
  }
  Recording& recording = *current_;
  if (recording.backward.empty()) {
    // Filler has no part in the loss: its gradients stay zeros.
    recording.grad_h = at::zeros({batch_.n_sequences(), grad_h.size(1)}, grad_h.options());
    record_backward(recording);
  }
  recording.grad_h.narrow(0, 0, n_).copy_(grad_h);
  for (const auto& piece : recording.backward) {
    piece.graph->replay();
    if (on_ready)
      for (const auto& [first, last] : piece.announced) on_ready(first, last);
  }
  ++replays_;
  batch_ = {};
}

void RecordedPasses::record_backward(Recording& recording) {
  const Recordable only;
  std::vector<std::pair<int, int>> announced;
  const auto close = [&] {
    recording.backward.push_back({pool_->end(), std::exchange(announced, {})});
    ++recordings_;
  };
  pool_->begin();
  encoder_->backward(recording.grad_h, recording.input, context_, *recording.saved, [&](int first, int last) {
    announced.emplace_back(first, last);
    if (!announces_) return;
    close();
    pool_->begin();
  });
  close();
  recording.saved.reset();
}

}  // namespace vixen

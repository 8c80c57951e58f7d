#include "train/gradient_reduction.hpp"

#include <ATen/ATen.h>

#include <utility>

namespace vixen {

GradientReduction::GradientReduction(const CommConfig& config, ParameterStore& store, Communicator& comm)
    : store_(&store), comm_(&comm), buckets_(config.bucket_mb) {
  if (config.gradients == GradientSums::kBf16 && comm.world_size() > 1) error_ = at::zeros_like(store.flat_grads());
}

void GradientReduction::ready(int first, int last) {
  if (comm_->world_size() == 1 || first >= last) return;
  buckets_.add(store_->elements_of({first, last}), [this](const RowRange& elements) { send(elements); });
}

void GradientReduction::send(const RowRange& elements) {
  Bucket bucket;
  bucket.gradients = store_->flat_grads().narrow(0, elements.begin, elements.size());
  if (error_.defined()) {
    auto error = error_.narrow(0, elements.begin, elements.size());
    error.add_(bucket.gradients);
    bucket.rounded = error.to(at::kBFloat16);
    error.sub_(bucket.rounded);
  }
  bucket.sum = comm_->all_reduce_sum_async(bucket.rounded.defined() ? bucket.rounded : bucket.gradients);
  travelling_.push_back(std::move(bucket));
}

void GradientReduction::finish() {
  buckets_.flush([this](const RowRange& elements) { send(elements); });
  for (Bucket& bucket : travelling_) {
    bucket.sum->wait();
    if (bucket.rounded.defined()) bucket.gradients.copy_(bucket.rounded);
  }
  travelling_.clear();
}

void GradientReduction::forget_error() {
  if (error_.defined()) error_.zero_();
}

}  // namespace vixen

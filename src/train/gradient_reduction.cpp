#include "train/gradient_reduction.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

namespace vixen {
namespace {

constexpr double kFloat = 4;

// Parameters begin on cache lines; what lies between two is zero on every rank, and stays so.
constexpr int64_t kGap = 64;

}  // namespace

GradientReduction::GradientReduction(const CommConfig& config, ParameterStore& store, Communicator& comm)
    : store_(&store), comm_(&comm), bucket_elements_(static_cast<int64_t>(config.bucket_mb * 1e6 / kFloat)) {
  if (config.gradients == GradientSums::kBf16 && comm.world_size() > 1) error_ = at::zeros_like(store.flat_grads());
}

void GradientReduction::ready(int first, int last) {
  if (comm_->world_size() == 1 || first >= last) return;
  const int64_t begin = store_->info(first).offset;
  const int64_t end = store_->info(last - 1).offset + store_->info(last - 1).size;
  if (begin >= end) return;  // frozen ones only
  const bool before = end <= begin_ && begin_ - end < kGap, behind = end_ <= begin && begin - end_ < kGap;
  if (!before && !behind) send();  // what waits lies elsewhere
  const bool waiting = begin_ < end_;
  begin_ = waiting ? std::min(begin_, begin) : begin;
  end_ = waiting ? std::max(end_, end) : end;
  if (end_ - begin_ >= bucket_elements_) send();
}

void GradientReduction::send() {
  if (begin_ >= end_) return;
  Bucket bucket;
  bucket.gradients = store_->flat_grads().narrow(0, begin_, end_ - begin_);
  if (error_.defined()) {
    auto error = error_.narrow(0, begin_, end_ - begin_);
    error.add_(bucket.gradients);
    bucket.rounded = error.to(at::kBFloat16);
    error.sub_(bucket.rounded);
  }
  bucket.sum = comm_->all_reduce_sum_async(bucket.rounded.defined() ? bucket.rounded : bucket.gradients);
  travelling_.push_back(std::move(bucket));
  begin_ = end_ = 0;
}

void GradientReduction::finish() {
  send();
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

// What stands for the CUDA form of the search's kernels on the pretend device: their references, on the host's view of
// the device's memory, each as one launch. So a search runs as on a GPU: the launches, and the memory, are a GPU's.
#pragma once

#include <ATen/ATen.h>

#include "base/check.hpp"
#include "kernels/cuda_kernels.hpp"
#include "pretend/memory.hpp"
#include "pretend/pretend_device.hpp"
#include "search/device_kernels.hpp"

namespace vixen::pretend {

/// For a scope.
class LaunchedSearchKernels {
 public:
  LaunchedSearchKernels() {
    lend_kernels(device().type(), {nullptr, &launch});
    lend_search_kernels(&table());
  }
  ~LaunchedSearchKernels() {
    lend_search_kernels(nullptr);
    lend_kernels(device().type(), {});
  }
  LaunchedSearchKernels(const LaunchedSearchKernels&) = delete;
  LaunchedSearchKernels& operator=(const LaunchedSearchKernels&) = delete;

  /// Launches since the start of the process.
  static int64_t& launches() {
    static int64_t count = 0;
    return count;
  }

 private:
  static void launch(const char* kernel, const std::function<int(CUstream_st*)>& enqueue) {
    const int status = enqueue(nullptr);
    VIXEN_CHECK(status == 0, "the launcher of {} returned {}", kernel, status);
  }

  template <class T>
  static at::Tensor seen(T* data, at::IntArrayRef sizes, at::ScalarType dtype) {
    return at::from_blob(host_address(data), sizes, at::dtype(dtype));
  }

  static DeviceCandidates candidates_of(const CandidateArgs& args, int64_t m) {
    DeviceCandidates candidates(m, args.k, args.capacity, at::dtype(at::kFloat));
    candidates.label = seen(args.label, {m, args.capacity}, at::kInt);
    candidates.lower = seen(args.lower, {m, args.capacity}, at::kFloat);
    candidates.upper = seen(args.upper, {m, args.capacity}, at::kFloat);
    candidates.count = seen(args.count, {m}, at::kInt);
    candidates.exact = seen(args.exact, {m}, at::kInt);
    candidates.threshold = seen(args.threshold, {m}, at::kFloat);
    return candidates;
  }
  /// Rows up to the last candidate's: how many there are the arguments do not say.
  static DevicePart part_of(const DeviceRows& rows, const DeviceCandidates& candidates) {
    const int64_t m = candidates.size();
    int64_t last = rows.first;
    for (int64_t i = 0; i < m; ++i) {
      const auto exact = candidates.exact[i].item<int32_t>(), count = candidates.count[i].item<int32_t>();
      if (count > exact) last = std::max(last, candidates.label[i].slice(0, exact, count).max().item<int64_t>());
    }
    const int64_t n = last - rows.first + 1;
    const auto dtype = rows.storage == RowStorage::kFloat32   ? at::kFloat
                       : rows.storage == RowStorage::kFloat16 ? at::kHalf
                                                              : at::kBFloat16;
    DevicePart part{rows.first, seen(const_cast<void*>(rows.rows), {n, rows.width}, dtype), {}, {}};
    if (rows.divisors) part.divisors = seen(const_cast<double*>(rows.divisors), {n}, at::kDouble);
    return part;
  }
  static at::Tensor queries_of(const CandidateArgs& args, int64_t m) {
    return seen(const_cast<float*>(args.queries), {m, args.rows.width}, at::kFloat);
  }

  static int filter(const FilterArgs& args, int64_t m, CUstream_st* /*stream*/) {
    ++launches();
    DeviceCandidates candidates = candidates_of(args.candidates, m);
    const int64_t n = args.first_label + args.columns, groups = (n + kGroupLabels - 1) / kGroupLabels;
    const ScoreTile tile{
        seen(const_cast<void*>(args.scores), {m, args.stride}, at::kBFloat16).narrow(1, 0, args.columns),
        args.first_label};
    const FilterBounds bounds{seen(const_cast<BoundWeights*>(args.weights), {m, 3}, at::kFloat),
                              seen(const_cast<LabelBound*>(args.bounds), {n, 2}, at::kFloat),
                              seen(const_cast<LabelBound*>(args.group_bounds), {groups, 2}, at::kFloat), args.relative};
    reference::filter_scores(candidates, tile, bounds, queries_of(args.candidates, m),
                             part_of(args.candidates.rows, candidates), args.limit, /*may_exceed=*/true);
    return 0;
  }
  static int settle(const CandidateArgs& args, int64_t m, CUstream_st* /*stream*/) {
    ++launches();
    DeviceCandidates candidates = candidates_of(args, m);
    reference::settle_candidates(candidates, queries_of(args, m), part_of(args.rows, candidates));
    return 0;
  }
  static int dots(const CanonicalDotArgs& args, int64_t m, CUstream_st* /*stream*/) {
    ++launches();
    const auto rows = [&](const float* data) { return seen(const_cast<float*>(data), {m, args.width}, at::kFloat); };
    seen(args.out, {m}, at::kFloat).copy_(reference::canonical_dot(rows(args.a), rows(args.b)));
    return 0;
  }

  static const SearchTable& table() {
    static constexpr SearchTable kTable{.filter_scores = filter, .settle_candidates = settle, .canonical_dots = dots};
    return kTable;
  }
};

}  // namespace vixen::pretend

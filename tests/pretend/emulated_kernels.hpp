// The CUDA kernels on the pretend device: the launch code of a GPU, kernels run by the emulator (tests/emulated), and
// launches in the order of streams like any operator.
#pragma once

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/check.hpp"
#include "cluster/device_kernels.hpp"
#include "emulated/emulated_table.hpp"
#include "emulated/emulator.hpp"
#include "emulated/global_memory.hpp"
#include "kernels/cuda_kernels.hpp"
#include "objective/device_kernels.hpp"
#include "pretend/memory.hpp"
#include "pretend/pretend_device.hpp"
#include "pretend/streams.hpp"
#include "pretend/work_graphs.hpp"
#include "search/device_kernels.hpp"

namespace vixen::pretend {

/// For a scope, on one thread of ATen's.
class EmulatedKernels {
 public:
  EmulatedKernels() : threads_(at::get_num_threads()) {
    at::set_num_threads(1);
    emulated::reach_device(&reach);
    lend_kernels(device().type(), {&emulated_cuda_kernels(), &launch});
    lend_search_kernels(&emulated_cuda_search_kernels());
    two_means::lend_cluster_kernels(&emulated_cuda_cluster_kernels());
    lend_objective_kernels(&emulated_cuda_objective_kernels());
  }
  ~EmulatedKernels() {
    lend_objective_kernels(nullptr);
    two_means::lend_cluster_kernels(nullptr);
    lend_search_kernels(nullptr);
    lend_kernels(device().type(), {});
    emulated::reach_device(nullptr);
    at::set_num_threads(threads_);
  }
  /// Of each kernel since this was cleared, where memory is counted (emulated::count_memory).
  static std::map<std::string, int64_t>& memory_bytes() {
    static std::map<std::string, int64_t> bytes;
    return bytes;
  }
  EmulatedKernels(const EmulatedKernels&) = delete;
  EmulatedKernels& operator=(const EmulatedKernels&) = delete;

 private:
  using Touched = std::map<Use*, Access>;  // of a block: from the first byte to the last

  static Touched& touched(bool is_store) {
    static Touched loads, stores;
    return is_store ? stores : loads;
  }

  // Of the running launch, while which nothing is freed: a block that it has come to, and what it did there.
  struct Known {
    const char *begin, *end;
    Access* access;
  };
  static std::vector<Known>& known(bool is_store) {
    static std::vector<Known> loads, stores;
    return is_store ? stores : loads;
  }

  static void* reach(const void* address, size_t bytes, bool is_store) {
    void* place = host_address(address);
    if (place == nullptr) return nullptr;
    const auto* first = static_cast<const char*>(address);
    for (const Known& block : known(is_store)) {
      if (first < block.begin || first + bytes > block.end) continue;
      const auto begin = static_cast<size_t>(first - block.begin);
      block.access->begin = std::min(block.access->begin, begin);
      block.access->end = std::max(block.access->end, begin + bytes);
      return place;
    }
    const auto access = access_at(address, bytes);
    if (!access) emulated::fail(fmt::format("{} bytes of the device that are no one tensor's", bytes));
    Access& noted = touched(is_store).emplace(access->use, *access).first->second;
    const char* begin = first - access->begin;
    known(is_store).push_back({begin, begin + block_bytes(address), &noted});
    return place;
  }

  static void launch(const char* kernel, const std::function<int(CUstream_st*)>& enqueue) {
    for (const bool is_store : {false, true}) {
      touched(is_store).clear();
      known(is_store).clear();
    }
    const int64_t before = emulated::counts().memory_bytes;
    const int status = enqueue(nullptr);
    if (const int64_t bytes = emulated::counts().memory_bytes - before; bytes > 0) memory_bytes()[kernel] += bytes;
    VIXEN_CHECK(status == 0, "the launcher of {} returned {}", kernel, status);
    const auto all = [](const Touched& blocks) {
      std::vector<Access> accesses;
      for (const auto& [use, access] : blocks) accesses.push_back(access);
      return accesses;
    };
    launch_on_current(kernel, all(touched(false)), all(touched(true)));
    record_work([kernel, enqueue] { launch(kernel, enqueue); }, {});
  }

  int threads_;
};

}  // namespace vixen::pretend

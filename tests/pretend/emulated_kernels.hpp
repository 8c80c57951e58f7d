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
#include "emulated/emulated_table.hpp"
#include "emulated/emulator.hpp"
#include "emulated/global_memory.hpp"
#include "kernels/cuda_kernels.hpp"
#include "pretend/memory.hpp"
#include "pretend/pretend_device.hpp"
#include "pretend/streams.hpp"

namespace vixen::pretend {

/// For a scope, on one thread of ATen's.
class EmulatedKernels {
 public:
  EmulatedKernels() : threads_(at::get_num_threads()) {
    at::set_num_threads(1);
    emulated::reach_device(&reach);
    lend_kernels(device().type(), {&emulated_cuda_kernels(), &launch});
  }
  ~EmulatedKernels() {
    lend_kernels(device().type(), {});
    emulated::reach_device(nullptr);
    at::set_num_threads(threads_);
  }
  EmulatedKernels(const EmulatedKernels&) = delete;
  EmulatedKernels& operator=(const EmulatedKernels&) = delete;

 private:
  using Touched = std::map<Use*, Access>;  // of a block: from the first byte to the last

  static Touched& touched(bool is_store) {
    static Touched loads, stores;
    return is_store ? stores : loads;
  }

  static void* reach(const void* address, size_t bytes, bool is_store) {
    void* place = host_address(address);
    if (place == nullptr) return nullptr;
    const auto access = access_at(address, bytes);
    if (!access) emulated::fail(fmt::format("{} bytes of the device that are no one tensor's", bytes));
    auto [found, is_new] = touched(is_store).try_emplace(access->use, *access);
    if (!is_new) {
      found->second.begin = std::min(found->second.begin, access->begin);
      found->second.end = std::max(found->second.end, access->end);
    }
    return place;
  }

  static void launch(const char* kernel, const std::function<int(CUstream_st*)>& enqueue) {
    touched(false).clear();
    touched(true).clear();
    const int status = enqueue(nullptr);
    VIXEN_CHECK(status == 0, "the launcher of {} returned {}", kernel, status);
    const auto all = [](const Touched& blocks) {
      std::vector<Access> accesses;
      for (const auto& [use, access] : blocks) accesses.push_back(access);
      return accesses;
    };
    launch_on_current(kernel, all(touched(false)), all(touched(true)));
  }

  int threads_;
};

}  // namespace vixen::pretend

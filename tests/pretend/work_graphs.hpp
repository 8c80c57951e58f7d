// CUDA graphs on the pretend device: what is enqueued while a recording lasts is kept and done again by a replay, over
// the same memory. Unlike on a GPU it is done in the recording, too: there its operands must hold something, and it may
// change nothing that lasts.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <vector>

#include "pretend/streams.hpp"

namespace vixen::pretend {

/// For a scope, the device has work graphs (device/work_graph.hpp).
class LentWorkGraphs {
 public:
  LentWorkGraphs();
  ~LentWorkGraphs();
  LentWorkGraphs(const LentWorkGraphs&) = delete;
  LentWorkGraphs& operator=(const LentWorkGraphs&) = delete;
};

/// Whether this thread records.
bool is_recording();
/// Work that a recording of this thread keeps; nothing without one. `alive`: what it reads and writes.
void record_work(std::function<void()> again, std::vector<at::Tensor> alive);
/// Memory that was made in a recording stays the recording's.
void keep_in_recording(const at::Tensor& made);
/// A fault in a recording: what waits, or copies between host and device, has no place in one.
void refuse_in_recording(const std::string& what);

}  // namespace vixen::pretend

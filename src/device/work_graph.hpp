// Work of a device that is recorded once and then enqueued again as one launch: CUDA graphs.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>

namespace vixen {

/// Recordings that share memory: what tensors made in one of them let go is used by those recorded later. So recordings
/// of one pool are enqueued in orders that do not mix: those made between two moments at which nothing of the pool was
/// alive, together and in their order.
class WorkGraphPool {
 public:
  virtual ~WorkGraphPool() = default;

  /// What the calling thread enqueues on the current stream from begin() to end() is recorded and does not run. Waits
  /// for the device, and copies from or to pageable memory, are errors of the device in between.
  virtual void begin() = 0;
  class Graph {
   public:
    virtual ~Graph() = default;
    /// Enqueues the work on the current stream. Operands are those of the recording, at their addresses.
    virtual void replay() = 0;
  };
  virtual std::unique_ptr<Graph> end() = 0;
};

/// Null where the device has no such thing, as CPUs.
std::unique_ptr<WorkGraphPool> make_work_graph_pool(at::Device device);

/// For tests: pools of a type of devices that has none of its own; null: none. Not thread-safe.
void lend_work_graphs(c10::DeviceType type, std::unique_ptr<WorkGraphPool> (*make)());

}  // namespace vixen

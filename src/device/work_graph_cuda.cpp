// CUDA graphs by ATen, whose allocator keeps the memory of what is recorded apart.
#include <ATen/cuda/CUDAEvent.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAGuard.h>

#include <optional>

#include "base/check.hpp"
#include "device/device_cuda.hpp"
#include "device/work_graph.hpp"

namespace vixen {
namespace {

class CudaGraphPool final : public WorkGraphPool {
 public:
  CudaGraphPool() : pool_(at::cuda::graph_pool_handle()), stream_(c10::cuda::getStreamFromPool()) {}

  // On a stream of its own, as the default one cannot be recorded; it takes the place of the current one in the order.
  void begin() override {
    VIXEN_CHECK(!graph_, "a recording within a recording");
    before_.emplace(c10::cuda::getCurrentCUDAStream());
    join(*before_, stream_);
    c10::cuda::setCurrentCUDAStream(stream_);
    graph_ = std::make_unique<at::cuda::CUDAGraph>();
    // Other threads go on: batches are copied up while this one records.
    graph_->capture_begin(pool_, cudaStreamCaptureModeThreadLocal);
  }

  std::unique_ptr<Graph> end() override {
    VIXEN_CHECK(graph_ != nullptr, "no recording has begun");
    graph_->capture_end();
    c10::cuda::setCurrentCUDAStream(*before_);
    join(stream_, *before_);
    before_.reset();
    return std::make_unique<CudaGraph>(std::move(graph_));
  }

 private:
  class CudaGraph final : public Graph {
   public:
    explicit CudaGraph(std::unique_ptr<at::cuda::CUDAGraph> graph) : graph_(std::move(graph)) {}
    void replay() override { graph_->replay(); }

   private:
    std::unique_ptr<at::cuda::CUDAGraph> graph_;
  };

  // What `after` gets from now on comes behind what `first` has.
  static void join(const c10::cuda::CUDAStream& first, const c10::cuda::CUDAStream& after) {
    at::cuda::CUDAEvent reached;
    reached.record(first);
    reached.block(after);
  }

  at::cuda::MempoolId_t pool_;
  c10::cuda::CUDAStream stream_;
  std::optional<c10::cuda::CUDAStream> before_;
  std::unique_ptr<at::cuda::CUDAGraph> graph_;
};

}  // namespace

std::unique_ptr<WorkGraphPool> detail::make_cuda_graph_pool() {
  return std::make_unique<CudaGraphPool>();
}

}  // namespace vixen

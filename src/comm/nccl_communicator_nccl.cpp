// The communicator over NCCL: collectives enqueued on the current CUDA stream, asynchronous sums on a side stream.
//
// Letters: W ranks, n_r rows of rank r.
#include "comm/nccl_communicator.hpp"

#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <cstring>
#include <numeric>
#include <utility>

#include "base/check.hpp"
#include "comm/hosted_communicator.hpp"
#include "comm/library_versions.hpp"
#include "comm/mpi_check.hpp"
#include "comm/nccl_watcher.hpp"
#include "comm/tensor_rows.hpp"

namespace vixen {

namespace {

#define VIXEN_CUDA_CALL(call) cuda_check((call), #call)
#define VIXEN_NCCL_CALL(call) nccl_check((call), #call)

ncclDataType_t nccl_type(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return ncclFloat32;
    case at::kDouble:
      return ncclFloat64;
    case at::kBFloat16:
      return ncclBfloat16;
    case at::kHalf:
      return ncclFloat16;
    case at::kInt:
      return ncclInt32;
    case at::kLong:
      return ncclInt64;
    default:
      VIXEN_CHECK(false, "a sum over ranks of {}", at::toString(type));
  }
  return ncclFloat32;
}

// A sum on the side stream: wait() makes the then current stream wait for it.
class NcclSum final : public CommHandle {
 public:
  NcclSum(at::Tensor tensor, at::DeviceIndex gpu, NcclWatcher* watcher)
      : tensor_(std::move(tensor)), gpu_(gpu), watcher_(watcher) {
    VIXEN_CUDA_CALL(cudaEventCreateWithFlags(&done_, cudaEventDisableTiming));
  }
  ~NcclSum() override { cudaEventDestroy(done_); }
  NcclSum(const NcclSum&) = delete;
  NcclSum& operator=(const NcclSum&) = delete;

  void record(cudaStream_t stream) { VIXEN_CUDA_CALL(cudaEventRecord(done_, stream)); }
  void wait() override {
    watcher_->check_failed();
    VIXEN_CUDA_CALL(cudaStreamWaitEvent(c10::cuda::getCurrentCUDAStream(gpu_), done_, 0));
    tensor_.reset();
  }

 private:
  at::Tensor tensor_;
  at::DeviceIndex gpu_;
  NcclWatcher* watcher_;
  cudaEvent_t done_ = nullptr;
};

// With one rank there is nothing to wait for.
class NothingToDo final : public CommHandle {
 public:
  void wait() override {}
};

class NcclCommunicator final : public HostedCommunicator {
 public:
  NcclCommunicator(std::unique_ptr<Communicator> host, int gpu, const Patience& patience)
      : HostedCommunicator(std::move(host)),
        gpu_(static_cast<at::DeviceIndex>(gpu)),
        side_(c10::cuda::getStreamFromPool(/*isHighPriority=*/true, static_cast<at::DeviceIndex>(gpu))) {
    if (world_size() == 1) return;
    ncclUniqueId id = {};
    std::string bytes(sizeof(id), '\0');
    if (rank() == 0) {
      VIXEN_NCCL_CALL(ncclGetUniqueId(&id));
      std::memcpy(bytes.data(), &id, sizeof(id));
    }
    bytes = broadcast_host(bytes, 0);
    std::memcpy(&id, bytes.data(), sizeof(id));
    watcher_ = std::make_unique<NcclWatcher>(id, rank(), world_size(), gpu, patience, process_name());
    VIXEN_CUDA_CALL(cudaEventCreateWithFlags(&ready_, cudaEventDisableTiming));
  }
  ~NcclCommunicator() override {
    watcher_.reset();
    if (ready_) cudaEventDestroy(ready_);
  }
  NcclCommunicator(const NcclCommunicator&) = delete;
  NcclCommunicator& operator=(const NcclCommunicator&) = delete;

  at::Device device() const override { return {at::kCUDA, gpu_}; }

  void all_reduce_sum(at::Tensor tensor) override {
    check_tensor(tensor, "all_reduce_sum");
    if (world_size() == 1 || tensor.numel() == 0) return;
    sum_on(tensor, current());
  }

  std::unique_ptr<CommHandle> all_reduce_sum_async(at::Tensor tensor) override {
    check_tensor(tensor, "all_reduce_sum");
    if (world_size() == 1 || tensor.numel() == 0) return std::make_unique<NothingToDo>();
    const c10::cuda::CUDAGuard guard(gpu_);
    auto handle = std::make_unique<NcclSum>(tensor, gpu_, watcher_.get());
    VIXEN_CUDA_CALL(cudaEventRecord(ready_, current()));
    VIXEN_CUDA_CALL(cudaStreamWaitEvent(side_, ready_, 0));
    tensor.record_stream(side_.unwrap());  // should the handle be dropped early, the memory is not reused too soon
    sum_on(tensor, side_);
    handle->record(side_);
    return handle;
  }

  at::Tensor all_gather_rows(const at::Tensor& local, std::span<const int64_t> rows) override {
    check_tensor(local, "all_gather_rows");
    const auto own = static_cast<size_t>(rank());
    VIXEN_CHECK(std::ssize(rows) == world_size() && local.dim() >= 1 && rows[own] == local.size(0),
                "all_gather_rows: {} local rows on rank {}, counts [{}]", local.dim() ? local.size(0) : 0, rank(),
                fmt::join(rows, ", "));
    if (world_size() == 1) return local;
    const c10::cuda::CUDAGuard guard(gpu_);
    const int64_t total = std::accumulate(rows.begin(), rows.end(), int64_t{0});
    at::Tensor out = empty_rows_like(local, total);
    const auto width = static_cast<size_t>(row_bytes(local));
    if (total == 0 || width == 0) return out;
    const cudaStream_t stream = current();
    const bool even = std::all_of(rows.begin(), rows.end(), [&](int64_t n) { return n == rows[0]; });
    watcher_->enqueue("all_gather_rows", stream, [&](ncclComm_t comm) {
      if (even) {
        VIXEN_NCCL_CALL(ncclAllGather(bytes_of(local), bytes_of(out), static_cast<size_t>(rows[0]) * width, ncclInt8,
                                      comm, stream));
        return;
      }
      // Uneven shards: one broadcast a rank, all in one group.
      char* target = bytes_of(out);
      for (size_t peer = 0; peer < rows.size(); ++peer) {
        const size_t bytes = static_cast<size_t>(rows[peer]) * width;
        if (bytes == 0) continue;
        VIXEN_NCCL_CALL(ncclBroadcast(peer == own ? bytes_of(local) : target, target, bytes, ncclInt8,
                                      static_cast<int>(peer), comm, stream));
        target += bytes;
      }
    });
    return out;
  }

  at::Tensor reduce_scatter_rows(const at::Tensor& tensor, std::span<const int64_t> rows) override {
    check_tensor(tensor, "reduce_scatter_rows");
    VIXEN_CHECK(std::ssize(rows) == world_size() && tensor.dim() >= 1 &&
                    std::accumulate(rows.begin(), rows.end(), int64_t{0}) == tensor.size(0),
                "reduce_scatter_rows: {} rows, counts [{}]", tensor.dim() ? tensor.size(0) : 0, fmt::join(rows, ", "));
    if (world_size() == 1) return tensor;
    const c10::cuda::CUDAGuard guard(gpu_);
    const auto own = static_cast<size_t>(rank());
    const ncclDataType_t type = nccl_type(tensor.scalar_type());
    at::Tensor out = empty_rows_like(tensor, rows[own]);
    const auto width = static_cast<size_t>(row_bytes(tensor));
    if (tensor.numel() == 0) return out;
    const size_t row_elements = width / tensor.element_size();
    const cudaStream_t stream = current();
    const bool even = std::all_of(rows.begin(), rows.end(), [&](int64_t n) { return n == rows[0]; });
    watcher_->enqueue("reduce_scatter_rows", stream, [&](ncclComm_t comm) {
      if (even) {
        VIXEN_NCCL_CALL(ncclReduceScatter(bytes_of(tensor), bytes_of(out), static_cast<size_t>(rows[0]) * row_elements,
                                          type, ncclSum, comm, stream));
        return;
      }
      // Uneven shards: one reduction a rank, all in one group. Only the root's target is written.
      const char* source = bytes_of(tensor);
      for (size_t peer = 0; peer < rows.size(); ++peer) {
        const size_t elements = static_cast<size_t>(rows[peer]) * row_elements;
        if (elements == 0) continue;
        VIXEN_NCCL_CALL(ncclReduce(source, peer == own ? bytes_of(out) : nullptr, elements, type, ncclSum,
                                   static_cast<int>(peer), comm, stream));
        source += elements * tensor.element_size();
      }
    });
    return out;
  }

  at::Tensor all_to_all_rows(const at::Tensor& send, std::span<const int64_t> send_rows,
                             std::span<const int64_t> receive_rows) override {
    check_tensor(send, "all_to_all_rows");
    const auto own = static_cast<size_t>(rank());
    VIXEN_CHECK(std::ssize(send_rows) == world_size() && std::ssize(receive_rows) == world_size() && send.dim() >= 1 &&
                    std::accumulate(send_rows.begin(), send_rows.end(), int64_t{0}) == send.size(0) &&
                    send_rows[own] == receive_rows[own],
                "all_to_all_rows: {} rows, to ranks [{}], from ranks [{}]", send.dim() ? send.size(0) : 0,
                fmt::join(send_rows, ", "), fmt::join(receive_rows, ", "));
    if (world_size() == 1) return send;
    const c10::cuda::CUDAGuard guard(gpu_);
    at::Tensor out = empty_rows_like(send, std::accumulate(receive_rows.begin(), receive_rows.end(), int64_t{0}));
    const auto width = static_cast<size_t>(row_bytes(send));
    const cudaStream_t stream = current();
    watcher_->enqueue("all_to_all_rows", stream, [&](ncclComm_t comm) {
      char* source = bytes_of(send);
      char* target = bytes_of(out);
      for (size_t peer = 0; peer < send_rows.size(); ++peer) {
        const size_t out_bytes = static_cast<size_t>(send_rows[peer]) * width;
        const size_t in_bytes = static_cast<size_t>(receive_rows[peer]) * width;
        if (out_bytes) VIXEN_NCCL_CALL(ncclSend(source, out_bytes, ncclInt8, static_cast<int>(peer), comm, stream));
        if (in_bytes) VIXEN_NCCL_CALL(ncclRecv(target, in_bytes, ncclInt8, static_cast<int>(peer), comm, stream));
        source += out_bytes;
        target += in_bytes;
      }
    });
    return out;
  }

  void broadcast(at::Tensor tensor, int root) override {
    check_tensor(tensor, "broadcast");
    VIXEN_CHECK(root >= 0 && root < world_size(), "broadcast from rank {} of {}", root, world_size());
    if (world_size() == 1 || tensor.numel() == 0) return;
    const c10::cuda::CUDAGuard guard(gpu_);
    const cudaStream_t stream = current();
    watcher_->enqueue("broadcast", stream, [&](ncclComm_t comm) {
      VIXEN_NCCL_CALL(ncclBroadcast(bytes_of(tensor), bytes_of(tensor), static_cast<size_t>(tensor.nbytes()), ncclInt8,
                                    root, comm, stream));
    });
  }

 private:
  cudaStream_t current() const { return c10::cuda::getCurrentCUDAStream(gpu_); }

  void check_tensor(const at::Tensor& tensor, const char* name) const {
    VIXEN_CHECK(tensor.defined() && tensor.device() == device() && tensor.is_contiguous(),
                "{}: a contiguous tensor on GPU {} is needed", name, static_cast<int>(gpu_));
  }

  void sum_on(const at::Tensor& tensor, cudaStream_t stream) {
    const c10::cuda::CUDAGuard guard(gpu_);
    const ncclDataType_t type = nccl_type(tensor.scalar_type());
    watcher_->enqueue("all_reduce_sum", stream, [&](ncclComm_t comm) {
      VIXEN_NCCL_CALL(ncclAllReduce(bytes_of(tensor), bytes_of(tensor), static_cast<size_t>(tensor.numel()), type,
                                    ncclSum, comm, stream));
    });
  }

  at::DeviceIndex gpu_;
  c10::cuda::CUDAStream side_;
  cudaEvent_t ready_ = nullptr;
  std::unique_ptr<NcclWatcher> watcher_;
};

}  // namespace

std::unique_ptr<Communicator> make_nccl_communicator(std::unique_ptr<Communicator> host, int gpu,
                                                     const Patience& patience) {
  int gpus = 0;
  if (cudaGetDeviceCount(&gpus) != cudaSuccess) gpus = 0;
  if (gpu >= gpus) {
    fail_user("device = cuda: process {} of this node needs a GPU of its own, and the node has {}", gpu, gpus);
  }
  VIXEN_CUDA_CALL(cudaSetDevice(gpu));
  return std::make_unique<NcclCommunicator>(std::move(host), gpu, patience);
}

LibraryVersions nccl_versions() {
  // NCCL_VERSION_CODE since 2.9: major * 10000 + minor * 100 + patch
  const auto text = [](int code) { return fmt::format("{}.{}.{}", code / 10000, code / 100 % 100, code % 100); };
  int loaded = 0;
  if (ncclGetVersion(&loaded) != ncclSuccess) return {text(NCCL_VERSION_CODE), "unknown"};
  return {text(NCCL_VERSION_CODE), text(loaded)};
}

}  // namespace vixen

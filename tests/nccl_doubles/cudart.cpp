// A CUDA runtime without a GPU, for tests: memory of a "GPU" is the host's, a stream is a thread that does its work in
// order, an event is a moment of a stream. What is not here (kernels, graphs) is left to the real library, which fails
// for want of a driver.
//
// Linked before LibTorch, so that its allocator, its streams and its copies run on this.
#include <cuda_runtime_api.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "nccl_doubles/faults.hpp"
#include "nccl_doubles/streams.hpp"

namespace vixen::doubles {
namespace {

constexpr size_t kMemoryBytes = size_t{8} << 30;  // of a GPU

// A moment that a stream comes to.
class Moment {
 public:
  void come() {
    {
      const std::lock_guard lock(mutex_);
      here_ = true;
    }
    wake_.notify_all();
  }
  void wait() {
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [this] { return here_; });
  }
  bool here() {
    const std::lock_guard lock(mutex_);
    return here_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable wake_;
  bool here_ = false;
};

// Never destroyed: a process may end while its thread still waits for a peer.
class Stream {
 public:
  explicit Stream(int gpu) : gpu_(gpu) {
    std::thread([this] { work(); }).detach();
  }
  int gpu() const { return gpu_; }
  void enqueue(std::function<void()> work) {
    {
      const std::lock_guard lock(mutex_);
      queue_.push_back(std::move(work));
    }
    wake_.notify_one();
  }
  std::shared_ptr<Moment> mark() {
    auto moment = std::make_shared<Moment>();
    enqueue([moment] { moment->come(); });
    return moment;
  }
  bool idle() {
    const std::lock_guard lock(mutex_);
    return queue_.empty();
  }

 private:
  void work() {
    std::unique_lock lock(mutex_);
    while (true) {
      wake_.wait(lock, [this] { return !queue_.empty(); });
      const auto next = queue_.front();
      lock.unlock();
      next();
      lock.lock();
      queue_.pop_front();  // only now: a stream at work is not idle
    }
  }

  int gpu_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> queue_;
};

struct Event {
  std::shared_ptr<Moment> last;  // of the last record
};

struct Runtime {
  std::mutex mutex;
  std::map<int, Stream*> default_streams;  // by GPU
  std::vector<Stream*> streams;
  std::map<const char*, std::pair<size_t, int>> memory;  // address: bytes, GPU
  std::map<const char*, size_t> pinned;                  // address: bytes
  cudaError_t query_fault = cudaSuccess;
};

Runtime& runtime() {
  static auto* only = new Runtime;
  return *only;
}

thread_local int current_gpu = 0;
thread_local cudaError_t last_error = cudaSuccess;

cudaError_t result(cudaError_t code) {
  if (code != cudaSuccess && code != cudaErrorNotReady) last_error = code;
  return code;
}

int gpus() {
  static const int count = [] {
    const char* wish = std::getenv("VIXEN_DOUBLE_GPUS");
    return wish != nullptr ? std::atoi(wish) : 8;
  }();
  return count;
}

Stream& stream_of(cudaStream_t handle) {
  if (handle != nullptr) return *reinterpret_cast<Stream*>(handle);
  const std::lock_guard lock(runtime().mutex);
  Stream*& stream = runtime().default_streams[current_gpu];
  if (stream == nullptr) {
    stream = new Stream(current_gpu);
    runtime().streams.push_back(stream);
  }
  return *stream;
}

Event& event_of(cudaEvent_t handle) {
  return *reinterpret_cast<Event*>(handle);
}

// The block of `blocks` that an address lies in.
template <typename Blocks, typename Bytes>
auto block_with(Blocks& blocks, const void* address, Bytes bytes_of) {
  const auto* at = static_cast<const char*>(address);
  auto after = blocks.upper_bound(at);
  if (after == blocks.begin()) return blocks.end();
  const auto block = std::prev(after);
  return at < block->first + bytes_of(block->second) ? block : blocks.end();
}

// Whether the host may not rely on its bytes staying what they are once the call returns.
bool is_pageable(const void* address) {
  const std::lock_guard lock(runtime().mutex);
  auto& all = runtime();
  return block_with(all.pinned, address, [](size_t bytes) { return bytes; }) == all.pinned.end() &&
         block_with(all.memory, address, [](const auto& block) { return block.first; }) == all.memory.end();
}

cudaError_t copy(void* to, const void* from, size_t bytes, cudaStream_t stream) {
  if (is_pageable(from)) {  // CUDA has read pageable memory by the time it returns
    const auto* values = static_cast<const char*>(from);
    const auto staged = std::make_shared<std::vector<char>>(values, values + bytes);
    stream_of(stream).enqueue([to, staged] { std::memcpy(to, staged->data(), staged->size()); });
  } else {
    stream_of(stream).enqueue([to, from, bytes] { std::memcpy(to, from, bytes); });
  }
  if (is_pageable(to)) stream_of(stream).mark()->wait();
  return cudaSuccess;
}

}  // namespace

void enqueue(cudaStream_t stream, std::function<void()> work) {
  stream_of(stream).enqueue(std::move(work));
}

void fail_queries(cudaError_t code) {
  const std::lock_guard lock(runtime().mutex);
  runtime().query_fault = code;
}

}  // namespace vixen::doubles

using namespace vixen::doubles;

extern "C" {

// Devices.

cudaError_t cudaGetDeviceCount(int* count) {
  *count = gpus();
  return result(*count > 0 ? cudaSuccess : cudaErrorNoDevice);
}

cudaError_t cudaGetDevice(int* device) {
  *device = current_gpu;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= gpus()) return result(cudaErrorInvalidDevice);
  current_gpu = device;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device < 0 || device >= gpus()) return result(cudaErrorInvalidDevice);
  *properties = {};
  std::snprintf(properties->name, sizeof(properties->name), "double of a GPU");
  properties->uuid.bytes[0] = static_cast<char>(device + 1);
  properties->major = 9;
  properties->multiProcessorCount = 1;
  properties->warpSize = 32;
  properties->maxThreadsPerBlock = 1024;
  properties->maxThreadsPerMultiProcessor = 1024;
  properties->totalGlobalMem = kMemoryBytes;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char* id, int length, int device) {
  if (device < 0 || device >= gpus()) return result(cudaErrorInvalidDevice);
  std::snprintf(id, static_cast<size_t>(length), "ffff:%02x:00.0", static_cast<unsigned>(device) & 0xffU);
  return cudaSuccess;
}

cudaError_t cudaDeviceCanAccessPeer(int* can, int, int) {
  *can = 0;
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = -5;
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
  std::vector<std::shared_ptr<Moment>> moments;
  {
    const std::lock_guard lock(runtime().mutex);
    for (Stream* stream : runtime().streams)
      if (stream->gpu() == current_gpu) moments.push_back(stream->mark());
  }
  for (const auto& moment : moments) moment->wait();
  return cudaSuccess;
}

// A driver is nowhere: its entry points are not found.
cudaError_t cudaGetDriverEntryPointByVersion(const char*, void** function, unsigned int, unsigned long long,
                                             cudaDriverEntryPointQueryResult* found) {
  *function = nullptr;
  if (found != nullptr) *found = cudaDriverEntryPointSymbolNotFound;
  return result(cudaErrorSymbolNotFound);
}

cudaError_t cudaGetLastError() {
  return std::exchange(last_error, cudaSuccess);
}

cudaError_t cudaPeekAtLastError() {
  return last_error;
}

// Memory.

cudaError_t cudaMalloc(void** address, size_t bytes) {
  *address = nullptr;
  if (bytes == 0) return cudaSuccess;
  void* block = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (block == MAP_FAILED) return result(cudaErrorMemoryAllocation);
  const std::lock_guard lock(runtime().mutex);
  runtime().memory[static_cast<const char*>(block)] = {bytes, current_gpu};
  *address = block;
  return cudaSuccess;
}

cudaError_t cudaFree(void* address) {
  if (address == nullptr) return cudaSuccess;
  cudaDeviceSynchronize();  // as CUDA does
  const std::lock_guard lock(runtime().mutex);
  const auto block = runtime().memory.find(static_cast<const char*>(address));
  if (block == runtime().memory.end()) return result(cudaErrorInvalidValue);
  ::munmap(address, block->second.first);
  runtime().memory.erase(block);
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  size_t used = 0;
  const std::lock_guard lock(runtime().mutex);
  for (const auto& [address, block] : runtime().memory)
    if (block.second == current_gpu) used += block.first;
  *total = kMemoryBytes;
  *free = kMemoryBytes - std::min(used, kMemoryBytes);
  return cudaSuccess;
}

cudaError_t cudaHostAlloc(void** address, size_t bytes, unsigned int) {
  *address = std::aligned_alloc(64, (std::max<size_t>(bytes, 1) + 63) / 64 * 64);
  if (*address == nullptr) return result(cudaErrorMemoryAllocation);
  const std::lock_guard lock(runtime().mutex);
  runtime().pinned[static_cast<const char*>(*address)] = bytes;
  return cudaSuccess;
}

cudaError_t cudaFreeHost(void* address) {
  const std::lock_guard lock(runtime().mutex);
  if (runtime().pinned.erase(static_cast<const char*>(address)) == 0) return result(cudaErrorInvalidValue);
  std::free(address);
  return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* address) {
  *attributes = {};
  const std::lock_guard lock(runtime().mutex);
  auto& all = runtime();
  const auto block = block_with(all.memory, address, [](const auto& of) { return of.first; });
  if (block != all.memory.end()) {
    attributes->type = cudaMemoryTypeDevice;
    attributes->device = block->second.second;
    attributes->devicePointer = const_cast<void*>(address);
  } else if (block_with(all.pinned, address, [](size_t bytes) { return bytes; }) != all.pinned.end()) {
    attributes->type = cudaMemoryTypeHost;
    attributes->hostPointer = const_cast<void*>(address);
  } else {
    attributes->type = cudaMemoryTypeUnregistered;
  }
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  return copy(to, from, bytes, stream);
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind) {
  copy(to, from, bytes, nullptr);
  stream_of(nullptr).mark()->wait();
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* address, int value, size_t bytes, cudaStream_t stream) {
  stream_of(stream).enqueue([address, value, bytes] { std::memset(address, value, bytes); });
  return cudaSuccess;
}

// Streams.

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned int, int) {
  auto* made = new Stream(current_gpu);
  *stream = reinterpret_cast<cudaStream_t>(made);
  const std::lock_guard lock(runtime().mutex);
  runtime().streams.push_back(made);
  return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  return stream_of(stream).idle() ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  stream_of(stream).mark()->wait();
  return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int) {
  if (const auto moment = event_of(event).last) stream_of(stream).enqueue([moment] { moment->wait(); });
  return cudaSuccess;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* argument) {
  stream_of(stream).enqueue([function, argument] { function(argument); });
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
  *status = cudaStreamCaptureStatusNone;
  return cudaSuccess;
}

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode*) {
  return cudaSuccess;
}

// Events.

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned int) {
  *event = reinterpret_cast<cudaEvent_t>(new Event);
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  event_of(event).last = stream_of(stream).mark();
  return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  {
    const std::lock_guard lock(runtime().mutex);
    if (runtime().query_fault != cudaSuccess) return result(runtime().query_fault);
  }
  const auto moment = event_of(event).last;
  return moment == nullptr || moment->here() ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  if (const auto moment = event_of(event).last) moment->wait();
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete &event_of(event);
  return cudaSuccess;
}

}  // extern "C"

// What the double of libnccl asks of the double of the CUDA runtime: work of its own on a stream.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>

namespace vixen::doubles {

/// `work` runs on the stream's thread once all that was enqueued before has ended. stream: nullptr is the default one
/// of the thread's current GPU.
void enqueue(cudaStream_t stream, std::function<void()> work);

}  // namespace vixen::doubles

// The GPUs of a node as plain values, and which of them a rank uses.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace vixen {

struct GpuFacts {
  int index = 0;
  std::string name;                         // "NVIDIA H100 80GB HBM3"
  std::string bus_id;                       // "0000:3B:00.0"
  int major = 0, minor = 0;                 // compute capability
  int numa_node = -1;                       // -1: only one, or none is told
  int64_t total_bytes = 0, free_bytes = 0;  // of the rank's own, else 0
  std::vector<int> peers;                   // GPUs whose memory it reaches directly
  // By NVIDIA's management library, where it is there.
  std::optional<bool> ecc;                       // error correction is on
  std::optional<int64_t> uncorrected_errors;     // since the driver was loaded
  std::optional<bool> mig;                       // divided into instances
  std::optional<int> clock_mhz, most_clock_mhz;  // of its multiprocessors, now and at most
  std::optional<bool> slowed;                    // by heat or a fault of its power supply
};

/// Of all visible GPUs; none without a driver. Memory, which asks for a context there, of GPU `own` alone, which is the
/// current one from now on. Never throws.
std::vector<GpuFacts> gpu_facts(int own);
/// Whether the build has CUDA.
bool has_cuda_build();
/// Driver's and runtime's CUDA version: "13.0"; empty without.
struct CudaVersions {
  std::string driver, runtime;
};
CudaVersions cuda_versions();

/// The GPU of a rank: the only visible one (under --gpus-per-task every rank sees its own), else that of its number on
/// the node. May be `gpus` or more: then there are too few.
int gpu_of_rank(int local_rank, int gpus);

}  // namespace vixen

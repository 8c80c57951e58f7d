// What is wrong with a GPU, by its facts alone.
#pragma once

#include <string>
#include <vector>

#include "device/gpu_facts.hpp"
#include "doctor/finding.hpp"

namespace vixen {

/// Findings about one GPU. cpus_node: the NUMA node of the CPUs of the rank that uses it, -1: several, or not known.
Findings judge_gpu(const GpuFacts& gpu, int cpus_node);

/// Findings about the GPUs of a node together: as many as ranks, alike, within each other's reach.
Findings judge_node(const std::vector<GpuFacts>& gpus, int ranks, const CudaVersions& cuda);

}  // namespace vixen

// What this program is made of, and whether every rank runs the same.
#include <fmt/format.h>
#include <torch/version.h>

#include <algorithm>

#include "base/version.hpp"
#include "comm/library_versions.hpp"
#include "data/hdf5_version.hpp"
#include "device/gpu_facts.hpp"
#include "doctor/checks.hpp"
#include "search/faiss_version.hpp"

namespace vixen {
namespace {

Finding hdf5_finding() {
  const auto hdf5 = hdf5_versions();
  const std::string found = fmt::format("HDF5 {}", hdf5.loaded);
  if (hdf5.loaded == hdf5.compiled) return good("HDF5", found);
  return bad("HDF5", fmt::format("{}, but built with {}", found, hdf5.compiled),
             "another library than the one of the build is loaded: mend LD_LIBRARY_PATH, or build again");
}

Finding nccl_finding() {
  const auto nccl = nccl_versions();
  if (nccl.compiled.empty()) return skipped("NCCL", "this build has no CUDA");
  if (nccl.loaded == nccl.compiled) return good("NCCL", nccl.loaded);
  return bad("NCCL", fmt::format("{} is loaded, built with {}", nccl.loaded, nccl.compiled),
             "two copies of NCCL are about: let LD_LIBRARY_PATH name the one that came with PyTorch, or none");
}

}  // namespace

Findings check_versions(Patient& patient) {
  const std::string own = fmt::format("vixen {}, PyTorch {}, {}, FAISS {}, {}", version(), TORCH_VERSION, mpi_library(),
                                      faiss_version(), has_cuda_build() ? "CUDA build" : "CPU build");
  Findings findings{good("program", own), hdf5_finding(), nccl_finding()};
  auto all = patient.host.all_gather_host(own);
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  if (all.size() > 1)
    findings.push_back(bad("same on all ranks", fmt::format("{} different programs", all.size()),
                           "start the same binary everywhere: is the folder that it lies in the same on all nodes?"));
  return findings;
}

}  // namespace vixen

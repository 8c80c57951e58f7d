// The communicator over NCCL, for tensors in GPU memory: one process a GPU. Builds without CUDA have none
// (no_nccl.cpp): a UserError.
#pragma once

#include <memory>

#include "comm/communicator.hpp"
#include "comm/patience.hpp"

namespace vixen {

/// A communicator over all ranks, this rank on GPU `gpu` of its node. `host` carries host values and NCCL's id.
/// Collective. Throws UserError when the node has no such GPU, CommError when NCCL does not come up in time.
std::unique_ptr<Communicator> make_nccl_communicator(std::unique_ptr<Communicator> host, int gpu,
                                                     const Patience& patience);

}  // namespace vixen

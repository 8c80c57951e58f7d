// The communicator over MPI, for tensors in host memory.
#pragma once

#include <memory>

#include "comm/communicator.hpp"
#include "comm/patience.hpp"

namespace vixen {

/// A communicator over all ranks (a duplicate of MPI_COMM_WORLD that returns errors). MPI must be initialised.
/// Collective. Tensors are CPU tensors; patience: how long a collective waits. ranks_a_node: so many
/// successive ranks are taken for a node, whatever they share (for tests); 0: what MPI says.
///
/// Sums are taken in rank order, element by element (bfloat16 and half in float32, rounded once at the end), never by
/// MPI_Allreduce: every rank gets the same bits, whatever algorithm MPI would have chosen. Large tensors go as
/// all-to-all of slices, sum of the own slice, all-gather of slices, which moves 2 (W-1)/W of the tensor as a ring
/// does.
std::unique_ptr<Communicator> make_mpi_communicator(const Patience& patience, int ranks_a_node = 0);

}  // namespace vixen

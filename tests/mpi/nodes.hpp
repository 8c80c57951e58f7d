// The ranks of a test as ranks of one node, and taken to be on nodes of one and of two.
#pragma once

#include <memory>
#include <vector>

#include "comm/mpi_communicator.hpp"
#include "mpi/mpi_main.hpp"

namespace vixen::test {

inline constexpr int kNodeSizes[] = {0, 1, 2};  // 0: as they are, all on this machine

inline std::vector<std::unique_ptr<Communicator>> communicators_by_node_size() {
  std::vector<std::unique_ptr<Communicator>> made;
  for (const int ranks_a_node : kNodeSizes) made.push_back(make_mpi_communicator(kDeadlineSeconds, ranks_a_node));
  return made;
}

}  // namespace vixen::test

#include "comm/communicator.hpp"

namespace vixen {

std::vector<std::vector<int>> ranks_by_node(const Communicator& comm) {
  std::vector<std::vector<int>> ranks;
  for (int rank = 0; const int node : comm.nodes()) {
    if (static_cast<size_t>(node) >= ranks.size()) ranks.resize(static_cast<size_t>(node) + 1);
    ranks[static_cast<size_t>(node)].push_back(rank++);
  }
  return ranks;
}

}  // namespace vixen

// The lists that ranks find for one another's queries, on their way home: merged within each node first, so that
// between nodes one list a node travels, not one a rank.
#pragma once

#include <cstdint>
#include <vector>

#include "comm/communicator.hpp"
#include "search/top_k.hpp"

namespace vixen {

class ListExchange {
 public:
  explicit ListExchange(Communicator& comm);

  /// lists [sum of asked, k]: what this rank's labels give for the queries of all ranks, asked[r] of rank r, in rank
  /// order, on the communicator's device. Returns the k best of all ranks for this rank's queries [asked[rank], k]. The
  /// total order of lists makes the way of merging invisible. Collective.
  TopK exchange(const TopK& lists, const std::vector<int64_t>& asked, int64_t k);

 private:
  // The rank of `node` that merges what the node finds for the queries of rank `asker`.
  int collector(int node, int asker) const;
  TopK send(const TopK& lists, const std::vector<int64_t>& to, const std::vector<int64_t>& from);

  Communicator& comm_;
  std::vector<size_t> places_;             // of each rank on its node
  std::vector<std::vector<int>> members_;  // ranks of each node
};

}  // namespace vixen

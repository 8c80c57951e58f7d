#include "search/list_exchange.hpp"

#include <ATen/ATen.h>

namespace vixen {
namespace {

// `lists` lists of the same n queries, below one another -> one.
TopK merge_stacked(const TopK& stacked, int64_t n, int64_t lists, int64_t k) {
  TopK merged{stacked.ids.narrow(0, 0, n), stacked.scores.narrow(0, 0, n)};
  for (int64_t list = 1; list < lists; ++list)
    merged = merge_top_k(merged, {stacked.ids.narrow(0, list * n, n), stacked.scores.narrow(0, list * n, n)}, k);
  return merged;
}

}  // namespace

ListExchange::ListExchange(Communicator& comm) : comm_(comm), members_(ranks_by_node(comm)) {
  places_.resize(static_cast<size_t>(comm.world_size()));
  for (const auto& ranks : members_)
    for (size_t place = 0; place < ranks.size(); ++place) places_[static_cast<size_t>(ranks[place])] = place;
}

int ListExchange::collector(int node, int asker) const {
  const auto& members = members_[static_cast<size_t>(node)];
  return members[places_[static_cast<size_t>(asker)] % members.size()];
}

TopK ListExchange::send(const TopK& lists, const std::vector<int64_t>& to, const std::vector<int64_t>& from) {
  return {comm_.all_to_all_rows(lists.ids.contiguous(), to, from),
          comm_.all_to_all_rows(lists.scores.contiguous(), to, from)};
}

TopK ListExchange::exchange(const TopK& lists, const std::vector<int64_t>& asked, int64_t k) {
  const int ranks = comm_.world_size(), own = comm_.rank();
  const int node = comm_.nodes()[static_cast<size_t>(own)];
  std::vector<int64_t> first{0};  // row of each asker's first query
  for (const int64_t rows : asked) first.push_back(first.back() + rows);

  // To the collectors of this node: rows by collector, then by asker.
  std::vector<int64_t> order, to(static_cast<size_t>(ranks), 0), from(static_cast<size_t>(ranks), 0);
  int64_t collected = 0;
  for (const int member : members_[static_cast<size_t>(node)])
    for (int asker = 0; asker < ranks; ++asker) {
      if (collector(node, asker) != member) continue;
      const auto at = static_cast<size_t>(asker);
      for (int64_t row = first[at]; row < first[at + 1]; ++row) order.push_back(row);
      to[static_cast<size_t>(member)] += asked[at];
      if (member == own) collected += asked[at];
    }
  for (const int member : members_[static_cast<size_t>(node)]) from[static_cast<size_t>(member)] = collected;
  const auto rows = at::tensor(order, at::kLong).to(lists.ids.device());
  TopK near = merge_stacked(send({lists.ids.index_select(0, rows), lists.scores.index_select(0, rows)}, to, from),
                            collected, std::ssize(members_[static_cast<size_t>(node)]), k);
  if (members_.size() == 1) return near;

  // From the collectors of all nodes to those who asked.
  const int64_t mine = asked[static_cast<size_t>(own)];
  for (int rank = 0; rank < ranks; ++rank) {
    const auto at = static_cast<size_t>(rank);
    to[at] = collector(node, rank) == own ? asked[at] : 0;
    from[at] = collector(comm_.nodes()[at], own) == rank ? mine : 0;
  }
  return merge_stacked(send(near, to, from), mine, std::ssize(members_), k);
}

}  // namespace vixen

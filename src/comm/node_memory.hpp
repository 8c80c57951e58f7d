// Memory that the ranks of a node share: what every rank reads and none changes is kept once a node.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "comm/communicator.hpp"

namespace vixen {

/// `bytes` of memory, zeros. Where a node has several ranks they map one POSIX shared memory object: its first rank
/// writes, the others may only read (a write there ends the process). Small sizes, and nodes whose shared memory has no
/// room or is not common to its ranks (a warning says so), give every rank memory of its own, which every rank writes.
class NodeMemory {
 public:
  /// Collective: the same `bytes` on every rank.
  NodeMemory(int64_t bytes, Communicator& comm);

  /// Whether this rank is one of those that write; the others wait for them and then read.
  bool writes() const { return writes_; }
  /// Ranks that write, ascending, the same on every rank.
  const std::vector<int>& writers() const { return writers_; }
  /// The bytes; they live as long as anyone holds the pointer.
  std::shared_ptr<std::byte> data() const { return data_; }

  /// Below this every rank keeps its own.
  static constexpr int64_t kLeastShared = int64_t{64} << 10;

 private:
  void share(int64_t bytes, Communicator& comm);

  bool writes_ = true;
  std::vector<int> writers_;
  std::shared_ptr<std::byte> data_;
};

}  // namespace vixen

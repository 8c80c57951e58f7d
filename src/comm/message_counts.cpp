#include "comm/message_counts.hpp"

#include <algorithm>
#include <numeric>

#include "base/check.hpp"
#include "shard/row_shards.hpp"

namespace vixen {
namespace {

constexpr int64_t kHostValue = 8;

// Of rows by rank, those of other ranks.
int64_t rows_of_others(std::span<const int64_t> rows, int rank) {
  return std::accumulate(rows.begin(), rows.end(), int64_t{0}) - rows[static_cast<size_t>(rank)];
}

}  // namespace

const char* name_of(Collective collective) {
  switch (collective) {
    case Collective::kAllReduceSum:
      return "all_reduce_sum";
    case Collective::kAllGatherRows:
      return "all_gather_rows";
    case Collective::kReduceScatterRows:
      return "reduce_scatter_rows";
    case Collective::kAllToAllRows:
      return "all_to_all_rows";
    case Collective::kBroadcast:
      return "broadcast";
    case Collective::kBarrier:
      return "barrier";
    case Collective::kSumHost:
      return "sum_host";
    case Collective::kMaxHost:
      return "max_host";
    case Collective::kAllGatherHost:
      return "all_gather_host";
    case Collective::kAllToAllHost:
      return "all_to_all_host";
    case Collective::kBroadcastHost:
      return "broadcast_host";
  }
  VIXEN_CHECK(false, "collective {}", static_cast<int>(collective));
}

int64_t MessageCounts::bytes() const {
  int64_t bytes = 0;
  for (const auto& count : of) bytes += count.bytes;
  return bytes;
}

MessageCounts& MessageCounts::operator+=(const MessageCounts& other) {
  for (size_t i = 0; i < of.size(); ++i) {
    of[i].calls += other.of[i].calls;
    of[i].bytes += other.of[i].bytes;
  }
  return *this;
}

MessageCounts MessageCounts::operator-(const MessageCounts& before) const {
  MessageCounts since = *this;
  for (size_t i = 0; i < of.size(); ++i) {
    since.of[i].calls -= before.of[i].calls;
    since.of[i].bytes -= before.of[i].bytes;
  }
  return since;
}

std::vector<std::pair<std::string, MessageCount>> named(const MessageCounts& counts) {
  std::vector<std::pair<std::string, MessageCount>> called;
  for (size_t i = 0; i < kCollectives; ++i)
    if (counts.of[i].calls > 0) called.emplace_back(name_of(static_cast<Collective>(i)), counts.of[i]);
  return called;
}

int64_t all_reduce_bytes(int64_t elements, int64_t element_bytes, int rank, int world_size) {
  const int64_t others = world_size - 1;
  if (elements <= kSmallSum) return others * elements * element_bytes;
  int64_t sent = 0;
  for (int64_t first = 0; first < elements; first += kSumPiece) {
    const int64_t piece = std::min(kSumPiece, elements - first);
    const int64_t own = batch_slice(piece, rank, world_size).size();
    sent += (piece - own) + others * own;
  }
  return sent * element_bytes;
}

int64_t all_gather_bytes(int64_t own_rows, int64_t row_bytes, int world_size) {
  return (world_size - 1) * own_rows * row_bytes;
}

int64_t reduce_scatter_bytes(std::span<const int64_t> rows, int64_t row_bytes, int rank) {
  return rows_of_others(rows, rank) * row_bytes;
}

int64_t all_to_all_bytes(std::span<const int64_t> send_rows, int64_t row_bytes, int rank) {
  return rows_of_others(send_rows, rank) * row_bytes;
}

int64_t broadcast_bytes(int64_t bytes, int root, int rank, int world_size) {
  return rank == root ? (world_size - 1) * bytes : 0;
}

int64_t host_value_bytes(int world_size) {
  return (world_size - 1) * kHostValue;
}

int64_t host_text_bytes(int64_t bytes, int world_size) {
  return host_value_bytes(world_size) + (world_size - 1) * bytes;
}

int64_t broadcast_host_bytes(int64_t bytes, int root, int rank, int world_size) {
  return host_value_bytes(world_size) + broadcast_bytes(bytes, root, rank, world_size);
}

}  // namespace vixen

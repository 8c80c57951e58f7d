// What a rank sends, by collective: the names, the counts, and how many bytes a call sends, for counters of real runs
// and for plans alike.
//
// Sent is what leaves a rank for other ranks, as when every message goes straight from its source to its target: what
// the MPI backend hands to MPI, to the byte, where it sends itself (all_reduce_sum to all_to_all_rows, and texts and
// indices between hosts). Single host values and broadcasts go by MPI's own collectives, which pass values on as they
// see fit, and are counted as if the source told every rank. NCCL moves as much: its rings send 2 (W-1)/W of a sum on
// average over ranks, (W-1)/W of the rows that all are to have or that are summed.
//   W ranks, n_r rows of rank r
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace vixen {

enum class Collective {
  kAllReduceSum,
  kAllGatherRows,
  kReduceScatterRows,
  kAllToAllRows,
  kBroadcast,
  kBarrier,
  kSumHost,
  kMaxHost,
  kAllGatherHost,
  kAllToAllHost,
  kBroadcastHost,
};
inline constexpr size_t kCollectives = 11;
/// As comm/communicator.hpp calls it.
const char* name_of(Collective collective);

struct MessageCount {
  int64_t calls = 0;
  int64_t bytes = 0;  // sent to other ranks
  bool operator==(const MessageCount&) const = default;
};

/// By collective.
struct MessageCounts {
  std::array<MessageCount, kCollectives> of = {};

  MessageCount& operator[](Collective collective) { return of[static_cast<size_t>(collective)]; }
  const MessageCount& operator[](Collective collective) const { return of[static_cast<size_t>(collective)]; }
  void add(Collective collective, int64_t bytes) {
    ++(*this)[collective].calls;
    (*this)[collective].bytes += bytes;
  }
  int64_t bytes() const;
  MessageCounts& operator+=(const MessageCounts& other);
  /// What was added since.
  MessageCounts operator-(const MessageCounts& before) const;
  bool operator==(const MessageCounts&) const = default;
};
/// Those that were called, with their names, in the order of the enumeration.
std::vector<std::pair<std::string, MessageCount>> named(const MessageCounts& counts);

/// Elements summed at a time by the MPI backend: bounds the extra memory of a sum to one piece, whatever the tensor.
inline constexpr int64_t kSumPiece = int64_t{32} << 20;
/// Up to here every rank sends the whole tensor to every other: one message latency instead of two.
inline constexpr int64_t kSmallSum = 2048;

// Bytes that rank `rank` of W sends in one call; 0 for W = 1.
/// A sum of n elements of so many bytes: slices to those who sum them, and sums to all.
int64_t all_reduce_bytes(int64_t elements, int64_t element_bytes, int rank, int world_size);
/// Its own rows to all others.
int64_t all_gather_bytes(int64_t own_rows, int64_t row_bytes, int world_size);
/// Of the tensor's rows, by rank, those of others.
int64_t reduce_scatter_bytes(std::span<const int64_t> rows, int64_t row_bytes, int rank);
/// Of the rows for each rank, those for others.
int64_t all_to_all_bytes(std::span<const int64_t> send_rows, int64_t row_bytes, int rank);
/// Root's bytes to all others.
int64_t broadcast_bytes(int64_t bytes, int root, int rank, int world_size);
/// A value of 8 bytes to every other rank: sums, maxima and gathers of host values, and an all-to-all of counts.
int64_t host_value_bytes(int world_size);
/// Bytes of this rank to all others, which are told how many first.
int64_t host_text_bytes(int64_t bytes, int world_size);
/// Root's bytes to all others, and everyone's number of bytes before.
int64_t broadcast_host_bytes(int64_t bytes, int root, int rank, int world_size);

}  // namespace vixen

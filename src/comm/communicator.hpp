// Collectives over the ranks of a job: one contract, an MPI and an NCCL backend.
//
// Every function is collective: all ranks call it, in the same order, with shapes that agree. Tensors are contiguous
// and on the communicator's device (CPU for MPI; the rank's GPU for NCCL, where calls are enqueued on the current CUDA
// stream and do not block the host). Host-side values (the *_host functions) always travel by MPI and block.
// With one rank nothing is copied: what is returned may be the tensor that was given. Sums started asynchronously are
// waited for in the order they were started, on every rank.
// A collective that makes no progress for `deadline` seconds, or a failed peer, throws CommError: main then takes the
// job down with MPI_Abort.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace vixen {

class CommError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The end of work that was started: wait() returns when the tensors may be used (for NCCL: on the current stream).
class CommHandle {
 public:
  virtual ~CommHandle() = default;
  virtual void wait() = 0;
};

/// A host value that was asked for: get() blocks until it is there, and is called once.
class HostValue {
 public:
  virtual ~HostValue() = default;
  virtual int64_t get() = 0;
};

class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int world_size() const = 0;
  virtual at::Device device() const = 0;
  /// The node of every rank [W]: ranks of a node share its memory. Nodes are numbered by their first ranks. Local.
  virtual std::span<const int> nodes() const = 0;

  /// Sum over ranks, in place. float32, float64, bfloat16 (summed in float32 on MPI), int32, int64.
  virtual void all_reduce_sum(at::Tensor tensor) = 0;
  /// The same, started now and ended by wait(): overlaps with what the caller does in between. The tensor is kept
  /// alive.
  virtual std::unique_ptr<CommHandle> all_reduce_sum_async(at::Tensor tensor) = 0;

  /// local [n_r, ...] of every rank -> [sum n_r, ...] in rank order. `rows` holds n_r for every rank (same on all
  /// ranks).
  virtual at::Tensor all_gather_rows(const at::Tensor& local, std::span<const int64_t> rows) = 0;

  /// tensor [sum n_r, ...] of every rank -> [n of this rank, ...]: the sum over ranks of the rows that are this rank's,
  /// where `rows` holds n_r for every rank (same on all ranks). dtypes as all_reduce_sum; `tensor` is left as it is.
  virtual at::Tensor reduce_scatter_rows(const at::Tensor& tensor, std::span<const int64_t> rows) = 0;

  /// rows of `send` [sum send_rows, ...] go to ranks 0..W-1 in order; returns what came in, in rank order
  /// [sum receive_rows, ...]. Any dtype.
  virtual at::Tensor all_to_all_rows(const at::Tensor& send, std::span<const int64_t> send_rows,
                                     std::span<const int64_t> receive_rows) = 0;

  /// Copies root's tensor to all, in place.
  virtual void broadcast(at::Tensor tensor, int root) = 0;

  // Host values, blocking.
  virtual void barrier() = 0;
  virtual int64_t sum_host(int64_t value) = 0;
  virtual double sum_host(double value) = 0;
  virtual int64_t max_host(int64_t value) = 0;
  virtual double max_host(double value) = 0;
  /// The maximum, asked for now and known later, when no rank has to wait for the others any more.
  virtual std::unique_ptr<HostValue> max_host_async(int64_t value) = 0;
  /// values of all ranks, by rank.
  virtual std::vector<int64_t> all_gather_host(int64_t value) = 0;
  /// counts[r] goes to rank r; returns what every rank sent to this one.
  virtual std::vector<int64_t> all_to_all_host(std::span<const int64_t> counts) = 0;
  /// The first send_counts[0] values go to rank 0, the next to rank 1...; returns what came in, in rank order.
  virtual std::vector<int64_t> all_to_all_host(std::span<const int64_t> values, std::span<const int64_t> send_counts,
                                               std::span<const int64_t> receive_counts) = 0;
  /// Root's bytes on every rank.
  virtual std::string broadcast_host(const std::string& bytes, int root) = 0;
  /// Bytes of every rank, by rank, on every rank.
  virtual std::vector<std::string> all_gather_host(const std::string& bytes) = 0;
};

/// Ranks of each node, ascending. Local.
std::vector<std::vector<int>> ranks_by_node(const Communicator& comm);

}  // namespace vixen

// A communicator that counts: calls and bytes sent, by collective (comm/message_counts.hpp).
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "comm/communicator.hpp"
#include "comm/message_counts.hpp"

namespace vixen {

/// The collectives of another communicator, to the bit. What is counted is what was asked of them, on this rank; with
/// one rank calls are counted, and no bytes.
class CountingCommunicator final : public Communicator {
 public:
  explicit CountingCommunicator(std::shared_ptr<Communicator> counted) : counted_(std::move(counted)) {}

  /// Since this was made. Local.
  const MessageCounts& counts() const { return counts_; }

  int rank() const override { return counted_->rank(); }
  int world_size() const override { return counted_->world_size(); }
  at::Device device() const override { return counted_->device(); }
  std::span<const int> nodes() const override { return counted_->nodes(); }

  void all_reduce_sum(at::Tensor tensor) override;
  std::unique_ptr<CommHandle> all_reduce_sum_async(at::Tensor tensor) override;
  at::Tensor all_gather_rows(const at::Tensor& local, std::span<const int64_t> rows) override;
  at::Tensor reduce_scatter_rows(const at::Tensor& tensor, std::span<const int64_t> rows) override;
  at::Tensor all_to_all_rows(const at::Tensor& send, std::span<const int64_t> send_rows,
                             std::span<const int64_t> receive_rows) override;
  void broadcast(at::Tensor tensor, int root) override;
  void barrier() override;
  int64_t sum_host(int64_t value) override;
  double sum_host(double value) override;
  int64_t max_host(int64_t value) override;
  double max_host(double value) override;
  std::unique_ptr<HostValue> max_host_async(int64_t value) override;
  std::vector<int64_t> all_gather_host(int64_t value) override;
  std::vector<int64_t> all_to_all_host(std::span<const int64_t> counts) override;
  std::vector<int64_t> all_to_all_host(std::span<const int64_t> values, std::span<const int64_t> send_counts,
                                       std::span<const int64_t> receive_counts) override;
  std::string broadcast_host(const std::string& bytes, int root) override;
  std::vector<std::string> all_gather_host(const std::string& bytes) override;

 private:
  void add_value(Collective collective) { counts_.add(collective, host_value_bytes(world_size())); }

  std::shared_ptr<Communicator> counted_;
  MessageCounts counts_;
};

}  // namespace vixen

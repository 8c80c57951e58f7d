// What communicators for tensors on devices share: ranks, nodes and host values are those of a communicator of the same
// ranks on the host.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "comm/communicator.hpp"

namespace vixen {

class HostedCommunicator : public Communicator {
 public:
  int rank() const final { return host_->rank(); }
  int world_size() const final { return host_->world_size(); }
  std::span<const int> nodes() const final { return host_->nodes(); }

  void barrier() final { host_->barrier(); }
  int64_t sum_host(int64_t value) final { return host_->sum_host(value); }
  double sum_host(double value) final { return host_->sum_host(value); }
  int64_t max_host(int64_t value) final { return host_->max_host(value); }
  double max_host(double value) final { return host_->max_host(value); }
  std::unique_ptr<HostValue> max_host_async(int64_t value) final { return host_->max_host_async(value); }
  std::vector<int64_t> all_gather_host(int64_t value) final { return host_->all_gather_host(value); }
  std::vector<int64_t> all_to_all_host(std::span<const int64_t> counts) final { return host_->all_to_all_host(counts); }
  std::vector<int64_t> all_to_all_host(std::span<const int64_t> values, std::span<const int64_t> send_counts,
                                       std::span<const int64_t> receive_counts) final {
    return host_->all_to_all_host(values, send_counts, receive_counts);
  }
  std::string broadcast_host(const std::string& bytes, int root) final { return host_->broadcast_host(bytes, root); }
  std::vector<std::string> all_gather_host(const std::string& bytes) final { return host_->all_gather_host(bytes); }

 protected:
  explicit HostedCommunicator(std::shared_ptr<Communicator> host) : host_(std::move(host)) {}
  Communicator& host() const { return *host_; }

 private:
  std::shared_ptr<Communicator> host_;
};

}  // namespace vixen

// The host's side of a communicator, on which ranks must not wait for one another within a step.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "comm/communicator.hpp"
#include "pretend/ledger.hpp"

namespace vixen::pretend {

/// Passes everything on. Host values that block are a fault of kind kWait in a step (InStep); those that were asked for
/// before (max_host_async) are not.
class WaitedHost final : public Communicator {
 public:
  explicit WaitedHost(Communicator& comm) : comm_(&comm) {}

  int rank() const override { return comm_->rank(); }
  int world_size() const override { return comm_->world_size(); }
  at::Device device() const override { return comm_->device(); }
  std::span<const int> nodes() const override { return comm_->nodes(); }
  void all_reduce_sum(at::Tensor tensor) override { comm_->all_reduce_sum(std::move(tensor)); }
  std::unique_ptr<CommHandle> all_reduce_sum_async(at::Tensor tensor) override {
    return comm_->all_reduce_sum_async(std::move(tensor));
  }
  at::Tensor all_gather_rows(const at::Tensor& local, std::span<const int64_t> rows) override {
    return comm_->all_gather_rows(local, rows);
  }
  at::Tensor reduce_scatter_rows(const at::Tensor& tensor, std::span<const int64_t> rows) override {
    return comm_->reduce_scatter_rows(tensor, rows);
  }
  at::Tensor all_to_all_rows(const at::Tensor& send, std::span<const int64_t> send_rows,
                             std::span<const int64_t> receive_rows) override {
    return comm_->all_to_all_rows(send, send_rows, receive_rows);
  }
  void broadcast(at::Tensor tensor, int root) override { comm_->broadcast(std::move(tensor), root); }
  std::unique_ptr<HostValue> max_host_async(int64_t value) override { return comm_->max_host_async(value); }

  void barrier() override { waits("barrier").barrier(); }
  int64_t sum_host(int64_t value) override { return waits("sum_host").sum_host(value); }
  double sum_host(double value) override { return waits("sum_host").sum_host(value); }
  int64_t max_host(int64_t value) override { return waits("max_host").max_host(value); }
  double max_host(double value) override { return waits("max_host").max_host(value); }
  std::vector<int64_t> all_gather_host(int64_t value) override {
    return waits("all_gather_host").all_gather_host(value);
  }
  std::vector<int64_t> all_to_all_host(std::span<const int64_t> counts) override {
    return waits("all_to_all_host").all_to_all_host(counts);
  }
  std::vector<int64_t> all_to_all_host(std::span<const int64_t> values, std::span<const int64_t> send_counts,
                                       std::span<const int64_t> receive_counts) override {
    return waits("all_to_all_host").all_to_all_host(values, send_counts, receive_counts);
  }
  std::string broadcast_host(const std::string& bytes, int root) override {
    return waits("broadcast_host").broadcast_host(bytes, root);
  }
  std::vector<std::string> all_gather_host(const std::string& bytes) override {
    return waits("all_gather_host").all_gather_host(bytes);
  }

 private:
  Communicator& waits(const std::string& what) {
    add_fault_in_step(FaultKind::kWait, what + " waits for the other ranks");
    return *comm_;
  }

  Communicator* comm_;
};

}  // namespace vixen::pretend

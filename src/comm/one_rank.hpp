// A communicator of one rank: what a rank does by itself runs through the same code as what all do together.
#pragma once

#include <ATen/core/Tensor.h>

#include "comm/communicator.hpp"

namespace vixen {

/// Needs no MPI; tensors on any device. Every collective returns what it was given.
class OneRank : public Communicator {
 public:
  explicit OneRank(at::Device device = at::kCPU) : device_(device) {}

  int rank() const override { return 0; }
  int world_size() const override { return 1; }
  at::Device device() const override { return device_; }
  std::span<const int> nodes() const override { return kNode; }
  void all_reduce_sum(at::Tensor) override {}
  std::unique_ptr<CommHandle> all_reduce_sum_async(at::Tensor) override { return std::make_unique<Done>(); }
  at::Tensor all_gather_rows(const at::Tensor& local, std::span<const int64_t>) override { return local; }
  at::Tensor reduce_scatter_rows(const at::Tensor& tensor, std::span<const int64_t>) override { return tensor; }
  at::Tensor all_to_all_rows(const at::Tensor& send, std::span<const int64_t>, std::span<const int64_t>) override {
    return send;
  }
  void broadcast(at::Tensor, int) override {}
  void barrier() override {}
  int64_t sum_host(int64_t value) override { return value; }
  double sum_host(double value) override { return value; }
  int64_t max_host(int64_t value) override { return value; }
  double max_host(double value) override { return value; }
  std::unique_ptr<HostValue> max_host_async(int64_t value) override { return std::make_unique<Known>(value); }
  std::vector<int64_t> all_gather_host(int64_t value) override { return {value}; }
  std::vector<int64_t> all_to_all_host(std::span<const int64_t> counts) override {
    return {counts.begin(), counts.end()};
  }
  std::vector<int64_t> all_to_all_host(std::span<const int64_t> values, std::span<const int64_t>,
                                       std::span<const int64_t>) override {
    return {values.begin(), values.end()};
  }
  std::string broadcast_host(const std::string& bytes, int) override { return bytes; }
  std::vector<std::string> all_gather_host(const std::string& bytes) override { return {bytes}; }

 private:
  struct Done : CommHandle {
    void wait() override {}
  };
  struct Known : HostValue {
    explicit Known(int64_t known) : value(known) {}
    int64_t get() override { return value; }
    int64_t value;
  };
  static constexpr int kNode[] = {0};

  at::Device device_;
};

}  // namespace vixen

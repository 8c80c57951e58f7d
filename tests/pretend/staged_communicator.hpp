// The ranks of an MPI job, each on a pretend device of its own: what NCCL does for GPUs, by messages between hosts.
//
// A sum that is started runs on a stream of its own from the moment it is started to wait(): whoever touches its tensor
// in between is not in order with it, and found out.
#pragma once

#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "comm/hosted_communicator.hpp"
#include "pretend/pretend_device.hpp"

namespace vixen::pretend {

class StagedCommunicator final : public HostedCommunicator {
 public:
  /// `host`: the communicator of the same ranks for CPU tensors.
  explicit StagedCommunicator(std::shared_ptr<Communicator> host)
      : HostedCommunicator(std::move(host)),
        side_(c10::impl::VirtualGuardImpl(c10::kPrivateUse1).getStreamFromGlobalPool(pretend::device())) {}

  at::Device device() const override { return pretend::device(); }

  void all_reduce_sum(at::Tensor tensor) override {
    launch("all_reduce_sum", {tensor}, {tensor});
    host().all_reduce_sum(host_view(tensor));
  }
  std::unique_ptr<CommHandle> all_reduce_sum_async(at::Tensor tensor) override {
    auto started = host().all_reduce_sum_async(host_view(tensor));
    return std::make_unique<Sum>(std::move(tensor), side_, std::move(started));
  }
  at::Tensor all_gather_rows(const at::Tensor& local, std::span<const int64_t> rows) override {
    launch("all_gather_rows", {local}, {});
    return brought(local, host().all_gather_rows(host_view(local), rows));
  }
  at::Tensor reduce_scatter_rows(const at::Tensor& tensor, std::span<const int64_t> rows) override {
    launch("reduce_scatter_rows", {tensor}, {});
    return brought(tensor, host().reduce_scatter_rows(host_view(tensor), rows));
  }
  at::Tensor all_to_all_rows(const at::Tensor& send, std::span<const int64_t> send_rows,
                             std::span<const int64_t> receive_rows) override {
    launch("all_to_all_rows", {send}, {});
    return brought(send, host().all_to_all_rows(host_view(send), send_rows, receive_rows));
  }
  void broadcast(at::Tensor tensor, int root) override {
    launch("broadcast", {tensor}, {tensor});
    host().broadcast(host_view(tensor), root);
  }

 private:
  class Sum final : public CommHandle {
   public:
    Sum(at::Tensor tensor, c10::Stream side, std::unique_ptr<CommHandle> started)
        : tensor_(std::move(tensor)), started_(std::move(started)) {
      c10::Event given(c10::kPrivateUse1);
      given.record(current());
      given.block(side);
      const c10::StreamGuard guard(side);
      launch("all_reduce_sum_async", {tensor_}, {tensor_});
      done_.record(side);
    }
    void wait() override {
      started_->wait();
      done_.block(current());
    }

   private:
    static c10::Stream current() { return c10::impl::VirtualGuardImpl(c10::kPrivateUse1).getStream(pretend::device()); }
    at::Tensor tensor_;
    std::unique_ptr<CommHandle> started_;
    c10::Event done_{c10::kPrivateUse1};
  };

  // What arrived, on the device; the tensor that was given where the host had nothing to do.
  static at::Tensor brought(const at::Tensor& given, const at::Tensor& arrived) {
    if (arrived.numel() > 0 && given.sizes() == arrived.sizes() &&
        arrived.const_data_ptr() == host_view(given).const_data_ptr())
      return given;
    const at::Tensor result = at::empty(arrived.sizes(), given.options());
    host_view(result).copy_(arrived);
    return result;
  }

  c10::Stream side_;
};

}  // namespace vixen::pretend

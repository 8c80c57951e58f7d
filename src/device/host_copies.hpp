// Copies of tensors in host memory that is taken once and written over by the next copies.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Event.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>

namespace vixen {

/// The moment at which copies are there. At once on a CPU.
class HostMoment {
 public:
  HostMoment() = default;
  explicit HostMoment(std::shared_ptr<const c10::Event> reached) : reached_(std::move(reached)) {}
  /// The calling thread waits for it; any thread may.
  void wait() const;

 private:
  std::shared_ptr<const c10::Event> reached_;
};

class HostCopies {
 public:
  /// device: of the tensors that are not on the host.
  explicit HostCopies(at::Device device) : device_(device) {}

  /// `tensor` in the memory of that name, which holds it until the next copy of the name: nobody may read the last one
  /// any more. From a device: into pinned memory, behind what the current stream has to do; the host does not wait, and
  /// what the stream does next may write over `tensor`. From the host: copied when this returns. The tensors of one
  /// name lie all on the host or all on the device.
  at::Tensor copy(const std::string& name, const at::Tensor& tensor);
  /// The moment at which the copies so far are there.
  HostMoment mark() const;
  /// Bytes of all copies.
  int64_t bytes() const;

 private:
  at::Device device_;
  std::map<std::string, at::Tensor> copies_;
};

}  // namespace vixen

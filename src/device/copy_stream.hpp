// Copies to the device on a stream of their own, so that what is fetched for a later step does not stand behind the
// work of this one.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>

#include <optional>
#include <span>
#include <utility>

namespace vixen {

/// The moment at which what was enqueued on a copy stream is there. None on a CPU.
class Arrival {
 public:
  Arrival() = default;
  explicit Arrival(c10::Event reached) : reached_(std::move(reached)) {}

  /// The current stream goes on when the moment has come; the host does not wait. The memory of `tensors`, made on the
  /// copy stream, is not used again before the current stream is done with them. Undefined and host tensors are left
  /// out.
  void join(std::span<const at::Tensor> tensors) const;

 private:
  std::optional<c10::Event> reached_;
};

class CopyStream {
 public:
  /// A stream of the device's pool; nothing on a CPU.
  explicit CopyStream(at::Device device);

  /// While it lives, the thread that made it enqueues on the stream.
  class Scope {
   public:
    explicit Scope(const CopyStream& copies) : guard_(copies.stream_) {}

   private:
    c10::OptionalStreamGuard guard_;
  };

  /// The moment at which all is there that has been enqueued so far.
  Arrival mark() const;

 private:
  std::optional<c10::Stream> stream_;
};

}  // namespace vixen

// How long work takes where it runs: on a CPU by the clock, on a device by events of its stream, for which nobody waits
// when they are recorded.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Event.h>

#include <optional>
#include <vector>

#include "base/lap.hpp"

namespace vixen {

class DeviceTimer {
 public:
  explicit DeviceTimer(at::Device device) : device_(device) {}

  /// Around a piece of work of the current stream; several pieces add up.
  void start();
  void stop();
  /// Of all pieces. On a device, once the host has waited for what came after them.
  double seconds() const;

 private:
  struct Piece {
    c10::Event begin, end;
  };
  c10::Event mark() const;

  at::Device device_;
  Lap lap_;
  double host_seconds_ = 0;
  std::optional<c10::Event> begun_;
  std::vector<Piece> pieces_;
};

}  // namespace vixen

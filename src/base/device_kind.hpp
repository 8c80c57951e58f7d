// The kind of device that a job computes on.
#pragma once

namespace vixen {

enum class DeviceKind { kCpu, kCuda };

}  // namespace vixen

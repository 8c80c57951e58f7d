// Other processors than x86-64: the baseline, which the compiler turns into what the build's flags allow.
#include "base/cpu_level.hpp"

namespace vixen {

CpuLevel cpu_level() {
  return CpuLevel::kBaseline;
}

}  // namespace vixen

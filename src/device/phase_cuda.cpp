#include <nvtx3/nvToolsExt.h>

#include "device/phase.hpp"

namespace vixen {

void Phase::begin(const char* name) {
  nvtxRangePushA(name);
}

void Phase::end() {
  nvtxRangePop();
}

}  // namespace vixen

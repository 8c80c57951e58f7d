#include "base/cpu_level.hpp"

namespace vixen {

const char* name_of(CpuLevel level) {
  switch (level) {
    case CpuLevel::kAvx512Vnni:
      return "AVX-512 VNNI";
    case CpuLevel::kAvx512:
      return "AVX-512";
    case CpuLevel::kAvx2:
      return "AVX2";
    case CpuLevel::kBaseline:
      break;
  }
  return "baseline";
}

}  // namespace vixen

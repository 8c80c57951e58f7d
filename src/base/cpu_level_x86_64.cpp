#include <cstdlib>
#include <string_view>

#include "base/cpu_level.hpp"

namespace vixen {
namespace {

CpuLevel processor_level() {
  // F16C came before AVX2: no processor has this without that.
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return CpuLevel::kBaseline;
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
      !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl"))
    return CpuLevel::kAvx2;
  return __builtin_cpu_supports("avx512vnni") ? CpuLevel::kAvx512Vnni : CpuLevel::kAvx512;
}

}  // namespace

CpuLevel cpu_level() {
  const char* variable = std::getenv("ATEN_CPU_CAPABILITY");
  const std::string_view most = variable != nullptr ? variable : "";
  const CpuLevel level = processor_level();
  if (most == "default") return CpuLevel::kBaseline;
  return most == "avx2" && level > CpuLevel::kAvx2 ? CpuLevel::kAvx2 : level;
}

}  // namespace vixen

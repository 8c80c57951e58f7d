// Chooses the table of fused CPU kernels once, by what this machine can run.
#include "kernels/cpu_kernels.hpp"

#include <cstring>

#include "kernels/choice.hpp"

namespace vixen {
namespace cpu_avx512 {
extern const CpuKernels kTable;
}
namespace cpu_avx2 {
extern const CpuKernels kTable;
}
namespace cpu_baseline {
extern const CpuKernels kTable;
}

namespace {

bool runs(const CpuKernels& table) {
  if (&table == &cpu_avx512::kTable)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
  if (&table == &cpu_avx2::kTable) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  return true;
}

const CpuKernels* const kTables[] = {&cpu_avx512::kTable, &cpu_avx2::kTable, &cpu_baseline::kTable};  // best first

const CpuKernels* best() {
  for (const CpuKernels* table : kTables)
    if (runs(*table)) return table;
  return &cpu_baseline::kTable;
}

const CpuKernels*& chosen() {
  static const CpuKernels* table = best();
  return table;
}

}  // namespace

const CpuKernels& cpu_kernels() {
  return *chosen();
}

bool force_cpu_isa(const char* isa) {
  if (isa == nullptr) {
    chosen() = best();
    return true;
  }
  for (const CpuKernels* table : kTables) {
    if (std::strcmp(table->isa, isa) != 0 || !runs(*table)) continue;
    chosen() = table;
    return true;
  }
  return false;
}

const char* cpu_isa() {
  return cpu_kernels().isa;
}

}  // namespace vixen

// The rows of the kernel table as values.
#pragma once

#include "kernels/table.hpp"

namespace vixen {

/// One row, as dispatchers and tests name it: kernel::rope.
template <class Args>
struct KernelRow {
  const char* name;
  KernelFamily family;
  CpuFunction<Args> CpuTable::*cpu;
  CudaFunction<Args> CudaTable::*cuda;
};
namespace kernel {
#define VIXEN_ROW(row, of, Args)        \
  inline constexpr KernelRow<Args> row{ \
      .name = #row, .family = KernelFamily::of, .cpu = &CpuTable::row, .cuda = &CudaTable::row};
VIXEN_KERNELS(VIXEN_ROW)
#undef VIXEN_ROW
}  // namespace kernel

}  // namespace vixen

// CUDA forms that stand in tables of their own (search/device_table.hpp, cluster/device_table.hpp), as the CPU has no
// form of them but other loops: the choice between a form and its reference, as dispatch.hpp for kernels/table.hpp.
#pragma once

#include "base/check.hpp"
#include "kernels/choice.hpp"
#include "kernels/cuda_kernels.hpp"

namespace vixen {

/// A table of such forms: those of CUDA, and those that a test lends to a device which has none.
template <class Table>
struct DeviceTables {
  KernelFamily family;
  const Table& cuda;
  const Table* lent;  // null: none
};

/// A form that is ready to run, or nothing: then the reference is to run.
template <class Args>
class DeviceForm {
 public:
  /// fits: whether the form has room for what it is given. A UserError where the family's key asks for a fused kernel
  /// and there is none.
  template <class Table>
  DeviceForm(const DeviceTables<Table>& tables, const char* name, CudaFunction<Args> Table::*row, at::Device device,
             bool fits = true)
      : name_(name), device_(device) {
    const KernelChoice choice = kernel_choice(tables.family);
    if (choice == KernelChoice::kReference) return;
    if (has_lent_kernels(device)) {
      if (tables.lent != nullptr) function_ = tables.lent->*row;
    } else if (device.is_cuda()) {
      function_ = tables.cuda.*row;
    }
    if (!fits) function_ = nullptr;
    if (function_ == nullptr && choice == KernelChoice::kFused)
      fail_user("{} = fused: no fused {} on {}; use auto or reference", key_of(tables.family), name, device.str());
  }
  explicit operator bool() const { return function_ != nullptr; }

  /// All `count` items on the device's current stream.
  void run(const Args& args, int64_t count) const {
    if (count == 0) return;
    launch_on_device(device_, name_, [&](CUstream_st* stream) { return function_(args, count, stream); });
  }

 private:
  const char* name_;
  at::Device device_;
  CudaFunction<Args> function_ = nullptr;
};

}  // namespace vixen

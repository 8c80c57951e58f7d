// The prefilter of 8-bit codes with kernels of one's choice.
#pragma once

#include <memory>

#include "search/int8_kernels.hpp"
#include "search/prefilter.hpp"

namespace vixen {

/// What make_int8_prefilter gives, which takes int8_kernels(). `kernels` must outlive it.
std::unique_ptr<PreparedLabels> prepare_int8(const Int8Kernels& kernels);

}  // namespace vixen

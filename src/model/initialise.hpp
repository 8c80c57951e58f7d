// Initial values of parameters that no checkpoint holds, keyed by (seed, parameter, element).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "model/parameters.hpp"

namespace vixen {

/// Gives a parameter its value, of the registered shape, any device and float dtype: a trained one is copied into the
/// buffer, a frozen one becomes a copy in `frozen_dtype` on the store's device. After allocate().
void set_parameter(ParameterStore& store, int parameter, const at::Tensor& value, at::ScalarType frozen_dtype);

/// Uniform in [-bound, bound). The same for every device and world size, trained or frozen (then in the compute dtype).
void fill_uniform(ParameterStore& store, int parameter, double bound, uint64_t seed);

}  // namespace vixen

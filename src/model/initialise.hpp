// Initial values of parameters that no checkpoint holds, keyed by (seed, parameter, element).
#pragma once

#include <cstdint>

#include "model/parameters.hpp"

namespace vixen {

/// Uniform in [-bound, bound). The same for every device and world size.
void fill_uniform(ParameterStore& store, int parameter, double bound, uint64_t seed);

}  // namespace vixen

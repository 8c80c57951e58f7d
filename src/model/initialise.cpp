#include "model/initialise.hpp"

#include <ATen/ATen.h>

#include "base/random.hpp"

namespace vixen {

void set_parameter(ParameterStore& store, int parameter, const at::Tensor& value, at::ScalarType frozen_dtype) {
  if (store.trained(parameter))
    store.value(parameter).copy_(value);
  else
    store.set_frozen(parameter, value.to(store.flat_values().options().dtype(frozen_dtype), /*non_blocking=*/false,
                                         /*copy=*/true));
}

void fill_uniform(ParameterStore& store, int parameter, double bound, uint64_t seed) {
  at::Tensor values = at::empty(store.info(parameter).shape, at::kFloat);
  float* out = values.mutable_data_ptr<float>();
  for (int64_t i = 0; i < values.numel(); ++i)
    out[i] =
        static_cast<float>(bound * (2.0 * random_uniform(seed, RandomStream::kInit, static_cast<uint64_t>(parameter),
                                                         static_cast<uint64_t>(i)) -
                                    1.0));
  set_parameter(store, parameter, values, store.compute_dtype());
}

}  // namespace vixen

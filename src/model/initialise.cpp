#include "model/initialise.hpp"

#include <ATen/ATen.h>

#include "base/random.hpp"

namespace vixen {

void fill_uniform(ParameterStore& store, int parameter, double bound, uint64_t seed) {
  const ParameterInfo& info = store.info(parameter);
  at::Tensor values = at::empty(info.shape, at::kFloat);
  float* out = values.mutable_data_ptr<float>();
  for (int64_t i = 0; i < info.size; ++i)
    out[i] =
        static_cast<float>(bound * (2.0 * random_uniform(seed, RandomStream::kInit, static_cast<uint64_t>(parameter),
                                                         static_cast<uint64_t>(i)) -
                                    1.0));
  store.value(parameter).copy_(values);
}

}  // namespace vixen

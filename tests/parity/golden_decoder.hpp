// What the parity tests of decoders share: how far their embeddings may be from those of transformers and PEFT.
#pragma once

#include "fixtures/encoder_checks.hpp"
#include "parity/golden.hpp"

namespace vixen::testing {

constexpr double kTolerance = 5e-6;
constexpr double kPackingTolerance = 1e-6;
constexpr double kBfloat16Tolerance = 2e-2;

}  // namespace vixen::testing

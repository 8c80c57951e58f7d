// What passes of an encoder cost: sums of the costs that layers, adapters, picture adapters and pooling report.
#pragma once

#include "model/backbone.hpp"
#include "model/costs.hpp"
#include "model/fusion/image_adapter.hpp"
#include "model/fusion/late_fusion.hpp"

namespace vixen {

/// Refers to the encoder that gave it. FLOPs count 2 a multiply-add.
class EncoderCosts {
 public:
  EncoderCosts(const EncoderOptions& options, const Backbone& backbone, const ImageAdapter* images,
               const LateFusion* late, const ParameterStore& store)
      : options_(&options), backbone_(&backbone), images_(images), late_(late), store_(&store) {}

  /// FLOPs of a forward pass over T positions in sequences of the given squared-length sum.
  double forward_flops(int64_t positions, int64_t sum_squared_lengths) const;
  /// FLOPs of the backward pass, without recomputation: gradients of inputs, and of the weights that are trained.
  double backward_flops(int64_t positions, int64_t sum_squared_lengths) const;
  /// cpu: by the kernels of CPUs; else as kernels.* and the build say of a device (kernels/moments.hpp).
  ActivationBytes activation_bytes(const BatchShape& shape, bool cpu = true) const;

  /// Bytes read and written between the matrix products; the picture adapter's, and late fusion's block, are not
  /// counted apart: their rows are taken for positions of the backbone. training: with dropout.
  PassTraffic traffic(const BatchShape& shape, bool cpu, bool training) const;

 private:
  double attention_flops(int64_t positions, int64_t sum_squared_lengths) const;

  const EncoderOptions* options_;
  const Backbone* backbone_;
  const ImageAdapter* images_;  // among the positions; null: none
  const LateFusion* late_;      // null: early fusion
  const ParameterStore* store_;
};

}  // namespace vixen

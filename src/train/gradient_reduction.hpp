// Sums of the gradients over ranks while the backward pass goes on: ranges that are ready come together in buckets, and
// a bucket that is full enough sets out.
//   E elements of the flat gradients
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "comm/communicator.hpp"
#include "config/config.hpp"
#include "model/parameters.hpp"
#include "shard/gradient_buckets.hpp"

namespace vixen {

/// With comm.gradients = bf16 a rank sends its gradients rounded to bfloat16 and keeps what rounding took away, in
/// float32, for the next step (error feedback, Seide et al. 2014): nothing is lost for good, half the bytes travel.
/// With one rank nothing is sent, and nothing rounded.
class GradientReduction {
 public:
  /// `store` is allocated, and outlives the object, as `comm` does.
  GradientReduction(const CommConfig& config, ParameterStore& store, Communicator& comm);

  /// The gradients of the parameters [first, last) are there, and stay as they are until finish(). The same calls in
  /// the same order on every rank. Collective.
  void ready(int first, int last);
  /// Sends what is left and waits for all sums: on the current stream, on a CPU the host. Collective.
  void finish();

  /// What rounding took away so far is forgotten: at a checkpoint, so that a run that goes on from it is the run that
  /// went on without. Local.
  void forget_error();

 private:
  struct Bucket {
    at::Tensor gradients;  // of the flat ones
    at::Tensor rounded;    // bfloat16; undefined where they travel themselves
    std::unique_ptr<CommHandle> sum;
  };
  void send(const RowRange& elements);

  ParameterStore* store_;
  Communicator* comm_;
  GradientBuckets buckets_;
  at::Tensor error_;  // float32 [E]; undefined where nothing is rounded
  std::vector<Bucket> travelling_;
};

}  // namespace vixen

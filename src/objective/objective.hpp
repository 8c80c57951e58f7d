// What a training step minimises (docs/algorithm.md section 4): named terms and explicit gradients with respect to the
// unit rows of the whole batch. A pure function over ATen: no communication, no autograd, the same on every rank. A new
// objective is a file of this folder that defines make_NAME, and a row of config/objectives.inl.
//   B queries, M >= B label columns (the drawn positive of each query, then extra ones), D width
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "config/config.hpp"

namespace vixen {

/// Which side of the score matrix draws one true partner for each of its members.
enum class DrawAxis {
  kQueries,  ///< each query draws a column that is relevant to it: int64 [B]
  kColumns,  ///< each column draws a query that it is relevant to: int64 [M], -1 where the batch has none
};

/// A draw that an objective asks of the batch plan. Draws with different keys are independent.
struct DrawSpec {
  const char* name;
  uint64_t key;  // high bits of the random counter; part of the results, never reused for another meaning
  DrawAxis axis;
};

struct ObjectiveInput {
  at::Tensor q;                   // float32 (float64 in tests) [B, D] unit rows
  at::Tensor u;                   // [M, D] unit rows
  at::Tensor z;                   // [M, D] unit rows; undefined for objectives without prototypes
  at::Tensor positives;           // int64 [2, P]: (query, column) of every relevant pair, by query, then by column
  std::vector<at::Tensor> draws;  // as draws() names them
};

struct LossTerm {
  std::string name;  // its key in metrics.jsonl
  at::Tensor value;  // scalar on the device, without its weight
};

struct ObjectiveResult {
  at::Tensor loss;  // scalar on the device: the weighted sum of the terms
  std::vector<LossTerm> terms;
  at::Tensor grad_q;  // [B, D]: d loss / d q
  at::Tensor grad_u;  // [M, D]
  at::Tensor grad_z;  // [M, D]; undefined without prototypes
};

class Objective {
 public:
  virtual ~Objective() = default;

  virtual ObjectiveResult evaluate(const ObjectiveInput& input) const = 0;

  /// Whether it reads z: the run then keeps free vectors, centroids and the prototype network.
  virtual bool uses_prototypes() const { return false; }
  /// What the batch plan draws for it; must outlive the object.
  virtual std::span<const DrawSpec> draws() const { return {}; }

  /// Bytes held at the fullest moment of evaluate(), beyond its input and result.
  int64_t bytes(int64_t b, int64_t m) const;
  /// Of its matrix products.
  double flops(int64_t b, int64_t m, int64_t d) const;
  /// Bytes that its element-wise passes over scores move.
  double traffic_bytes(int64_t b, int64_t m) const;

 protected:
  /// Counted in the objective's own file: float32 [B, M] matrices held at once; B x M x D products of a step, those of
  /// the gradients included; element-wise passes over a [B, M] matrix.
  struct Costs {
    int64_t matrices, products, passes;
  };
  virtual Costs costs() const = 0;
};

/// The objective of a row of config/objectives.inl.
std::unique_ptr<Objective> make_objective(Method method, const LossConfig& config);
/// That of config.train.method.
std::unique_ptr<Objective> make_objective(const Config& config);

}  // namespace vixen

// What a training step minimises (docs/algorithm.md section 4): a weighted sum of terms, with explicit gradients with
// respect to the unit rows of the whole batch. Pure functions over ATen: no communication, no autograd. A new objective
// is a file of this folder that defines make_NAME, and a row of config/objectives.inl.
//   B queries, M >= B label columns (the drawn positive of each query, then extra ones), D width
//   S = q u^T, F = q z^T [B, M] scores
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "config/config.hpp"
#include "objective/term.hpp"

namespace vixen {

/// A draw of one true partner for each member of a side, that an objective asks of the batch plan. Draws with different
/// keys are independent.
struct DrawSpec {
  const char* name;
  uint64_t key;  // high bits of the random counter; part of the results, never reused for another meaning
  /// kQueries: each query draws a column that is relevant to it, int64 [B]. kColumns: each column draws a query that it
  /// is relevant to, int64 [M], -1 where the batch has none.
  Side side;
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

using Terms = std::vector<std::unique_ptr<Term>>;

/// Terms in the order in which they are added, and what the batch plan draws for them.
class Objective {
 public:
  /// draws: in static storage.
  explicit Objective(Terms terms, std::span<const DrawSpec> draws = {});

  const Terms& terms() const { return terms_; }
  std::span<const DrawSpec> draws() const { return draws_; }
  /// Whether it reads z: the run then keeps free vectors, centroids and the prototype network.
  bool uses_prototypes() const;
  /// Whether a term has rows of this side.
  bool asks(Side side) const;

  /// The whole batch at once, on whichever rank asks: S, F and gradients of their size are held. Blocks of rows:
  /// objective/partial_objective.hpp.
  ObjectiveResult evaluate(const ObjectiveInput& input) const;

  // What evaluate() costs: bytes held at its fullest moment, beyond its input and result; FLOPs of its matrix products;
  // bytes that its element-wise passes over scores move, by references or by a device's kernels.
  int64_t bytes(int64_t b, int64_t m) const;
  double flops(int64_t b, int64_t m, int64_t d) const;
  double traffic_bytes(int64_t b, int64_t m, bool fused = false) const;

  // The same of one row of a side, with `columns` scores, where rows are evaluated block by block; kept: of each row
  // whose block is done, until the sums over all rows are known.
  int64_t row_bytes(Side side, int64_t columns) const;
  int64_t kept_row_bytes(Side side) const;
  double row_flops(Side side, int64_t columns, int64_t d) const;
  double row_traffic_bytes(Side side, int64_t columns, bool fused = false) const;
  /// How many sums over all rows there are of a batch, of all terms together: what ranks tell one another.
  int64_t n_sums(int64_t b, int64_t m) const;

 private:
  // Over the terms of a side: matrices read, and the most that one of them makes; the rest are sums.
  struct Counts {
    int64_t read = 0, made = 0, gradients = 0, passes = 0, fused_passes = 0, kept_bytes = 0;
  };
  Counts count(Side side) const;
  /// Bytes a score.
  double traffic_of(Side side, bool fused) const;

  Terms terms_;
  std::span<const DrawSpec> draws_;
};

/// The objective of a row of config/objectives.inl.
std::unique_ptr<Objective> make_objective(Method method, const LossConfig& config);
/// That of config.train.method.
std::unique_ptr<Objective> make_objective(const Config& config);

}  // namespace vixen

// One operator call for every row of the kernel table, with inputs that the row's kernel takes: what holds each form of
// a kernel to its reference, in tests and on a user's machine.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <string>
#include <vector>

#include "kernels/choice.hpp"
#include "kernels/dropout.hpp"
#include "kernels/packed_attention.hpp"

namespace vixen {

/// What is known of a row without its arguments.
struct RowFacts {
  std::string name;
  KernelFamily family;
  bool (*on_cpu)(const CpuTable& table);
  bool (*on_cuda)(const CudaTable& table);
};
/// All rows, in the table's order.
std::vector<RowFacts> kernel_row_facts();

/// Sequences of these lengths, packed; on the CPU.
struct PackedLengths {
  at::Tensor cu_seqlens, sequence_keys;
  TokenKeys keys;
  int64_t positions = 0, max_seqlen = 0;
};
PackedLengths pack_lengths(const std::vector<int64_t>& lengths);
/// Lengths 1 .. longest, each once, in a mixed order.
std::vector<int64_t> mixed_lengths(int64_t longest);
/// Normal values, the same for a seed on every machine; on the CPU.
at::Tensor seeded_normal(at::IntArrayRef shape, uint64_t seed, at::ScalarType dtype = at::kFloat);

/// Inputs of one dtype on one device: T positions of sequences of 1 to 12, rows of 96 columns, 4 heads over 2 key-value
/// heads of 24 columns.
struct KernelInputs {
  at::ScalarType dtype;
  at::Device device;
  uint64_t base_seed;  // other values for another one
  PackedLengths packed = pack_lengths(mixed_lengths(12));
  AttentionShape shape{.heads = 4, .max_seqlen = 12, .kv_heads = 2, .causal = true};
  int64_t width = 96, head_dim = 24, qkv_width = int64_t{8} * 24;

  KernelInputs(at::ScalarType stored, at::Device where, uint64_t seed = 0);
  at::Tensor rows(int64_t columns, uint64_t seed) const {
    return seeded_normal({packed.positions, columns}, base_seed + seed, dtype).to(device);
  }
  at::Tensor floats(at::IntArrayRef sizes, uint64_t seed) const {
    return seeded_normal(sizes, base_seed + seed).to(device);
  }
  at::Tensor zeros(at::IntArrayRef sizes) const { return at::zeros(sizes, at::dtype(at::kFloat).device(device)); }
  at::Tensor ids(int64_t table) const { return (at::arange(packed.positions, at::kLong) * 31 % table).to(device); }
  Dropout dropout() const { return {.p = 0.1, .seed = 5, .step = 3, .site = 2}; }
};

struct KernelComparison {
  std::string row;
  /// Calls the operator whose fused form is the row; what goes before it is the reference's. Returns all it makes.
  std::function<std::vector<at::Tensor>(const KernelInputs&)> run;
};
/// Of all rows, in the table's order.
std::vector<KernelComparison> kernel_comparisons();

/// Largest |got - want| as a share of the largest |want|; infinite where a value is.
double kernel_difference(const at::Tensor& got, const at::Tensor& want);
/// What rounding explains: float32 sums of some hundred terms, or one rounding to bfloat16 (2^-8) of the largest value.
double kernel_tolerance(at::ScalarType dtype);

/// All families but one to `others`, that one to `own`; as before when it goes.
class ScopedChoices {
 public:
  ScopedChoices(KernelFamily family, KernelChoice own, KernelChoice others = KernelChoice::kAuto);
  ~ScopedChoices();
  ScopedChoices(const ScopedChoices&) = delete;
  ScopedChoices& operator=(const ScopedChoices&) = delete;

 private:
  KernelsConfig before_;
};

/// Of one result of a comparison.
struct KernelDifference {
  bool same_dtype = false;
  double difference = 0;  // kernel_difference()
};
/// Runs a comparison as the reference and as the fused kernel of its device, which is asked for by name.
std::vector<KernelDifference> compare_kernel(const KernelComparison& comparison, KernelFamily family,
                                             const KernelInputs& in);

}  // namespace vixen

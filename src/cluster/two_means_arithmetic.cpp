// Arithmetic of balanced 2-means.
#include "cluster/two_means_arithmetic.hpp"

#include <ATen/ATen.h>
#include <c10/util/Half.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/check.hpp"
#include "base/random.hpp"

// Wider vectors where the machine has them. Only for exact arithmetic: fused multiply-add changes none of its bits.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define VIXEN_WIDE_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define VIXEN_WIDE_CLONES
#endif

namespace vixen::two_means {

namespace {

__extension__ typedef unsigned __int128 Wide;

// Values that ATen treats at a time: bounds its float64 temporaries.
constexpr int64_t kChunkValues = int64_t{1} << 22;

int64_t chunk_rows(int64_t width) {
  return std::max<int64_t>(1, kChunkValues / width);
}

int64_t power_of_two_above(int64_t width) {
  return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(width)));
}

// Sum of values[0..length), length a power of two: upper half onto lower half until one is left.
double halve(double* values, int64_t length) {
  for (int64_t half = length / 2; half >= 1; half /= 2) {
    for (int64_t i = 0; i < half; ++i) values[i] += values[i + half];
  }
  return values[0];
}

template <typename Value>
void unit_row(const Value* row, float* out, int64_t width, std::vector<double>& scratch) {
  const int64_t padded = power_of_two_above(width);
  scratch.assign(static_cast<size_t>(padded), 0.0);
  for (int64_t d = 0; d < width; ++d) {
    const auto value = static_cast<double>(static_cast<float>(row[d]));
    scratch[static_cast<size_t>(d)] = value * value;
  }
  const double norm = std::sqrt(halve(scratch.data(), padded));
  for (int64_t d = 0; d < width; ++d) {
    const auto value = static_cast<double>(static_cast<float>(row[d]));
    out[d] = norm == 0 ? 0.0f : static_cast<float>(round_to_grid(value / norm));
  }
}

template <typename Value>
void unit_rows_of(const at::Tensor& rows, at::Tensor& out) {
  const int64_t n = rows.size(0), width = rows.size(1);
  const Value* source = rows.const_data_ptr<Value>();
  float* target = out.data_ptr<float>();
#pragma omp parallel
  {
    std::vector<double> scratch;
#pragma omp for schedule(static)
    for (int64_t i = 0; i < n; ++i) unit_row(source + i * width, target + i * width, width, scratch);
  }
}

}  // namespace

at::Tensor unit_rows_cpu(const at::Tensor& rows, at::Tensor out) {
  const at::Tensor source = rows.contiguous();
  if (!out.defined()) out = at::empty(source.sizes(), at::dtype(at::kFloat));
  if (source.scalar_type() == at::kHalf) {
    unit_rows_of<c10::Half>(source, out);
  } else {
    unit_rows_of<float>(source, out);
  }
  return out;
}

int64_t count_not_finite(const at::Tensor& rows) {
  const int64_t n = rows.size(0), chunk = chunk_rows(rows.size(1));
  at::Tensor count = at::zeros({}, at::dtype(at::kLong).device(rows.device()));
  for (int64_t begin = 0; begin < n; begin += chunk)
    count.add_(at::isnan(rows.narrow(0, begin, std::min(chunk, n - begin))).any(1).sum());
  return count.item<int64_t>();
}

VIXEN_WIDE_CLONES double exact_dot(const float* row, const double* difference, int64_t width) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t d = 0; d < width; ++d) sum += static_cast<double>(row[d]) * difference[d];
  return sum;
}

VIXEN_WIDE_CLONES void add_row(double* sum, const float* row, double sign, int64_t width) {
#pragma omp simd
  for (int64_t d = 0; d < width; ++d) sum[d] += sign * static_cast<double>(row[d]);
}

double tree_norm(const double* sum, int64_t width, std::vector<double>& scratch) {
  const int64_t padded = power_of_two_above(width);
  scratch.assign(static_cast<size_t>(padded), 0.0);
  for (int64_t d = 0; d < width; ++d) scratch[static_cast<size_t>(d)] = sum[d] * sum[d];
  return std::sqrt(halve(scratch.data(), padded));
}

double centroid_difference(const double* first_sum, const double* second_sum, double* difference, int64_t width,
                           std::vector<double>& scratch) {
  const double first_norm = tree_norm(first_sum, width, scratch), second_norm = tree_norm(second_sum, width, scratch);
  const double first_scale = first_norm > 0 ? 1 / first_norm : 0, second_scale = second_norm > 0 ? 1 / second_norm : 0;
  for (int64_t d = 0; d < width; ++d) {
    difference[d] = round_to_grid(second_sum[d] * second_scale - first_sum[d] * first_scale);
  }
  return first_norm + second_norm;
}

std::pair<int64_t, int64_t> seed_places(uint64_t seed, uint64_t epoch, uint64_t heap_node, int64_t m) {
  VIXEN_CHECK(m >= 2, "a node of {} rows has no two seeds", m);
  const auto bits = random_block(seed, RandomStream::kCluster, epoch, heap_node);
  const auto below = [](uint32_t high, uint32_t low, int64_t bound) {
    const uint64_t word = (uint64_t{high} << 32) | low;
    return static_cast<int64_t>((static_cast<Wide>(word) * static_cast<uint64_t>(bound)) >> 64);
  };
  const int64_t first = below(bits[0], bits[1], m);
  const int64_t second = below(bits[2], bits[3], m - 1);
  return {first, second + (second >= first ? 1 : 0)};
}

uint64_t sort_key(float score, int64_t place) {
  // Adding zero turns -0 into 0: equal scores must be equal keys. Then flip the bits so that they order as integers.
  const uint32_t bits = std::bit_cast<uint32_t>(score + 0.0f);
  const uint32_t ordered = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
  return (uint64_t{ordered} << 32) | static_cast<uint32_t>(place);
}

void split_in_half(const float* scores, int64_t m, uint8_t* side, std::vector<uint64_t>& keys) {
  keys.resize(static_cast<size_t>(m));
  for (int64_t i = 0; i < m; ++i) keys[static_cast<size_t>(i)] = sort_key(scores[i], i);
  const auto last_of_first = keys.begin() + (m + 1) / 2 - 1;
  std::nth_element(keys.begin(), last_of_first, keys.end());
  const uint64_t border = *last_of_first;
  for (int64_t i = 0; i < m; ++i) side[i] = sort_key(scores[i], i) > border;
}

}  // namespace vixen::two_means

// The arguments of every fused kernel: raw pointers, shapes and strides, the same for the CPU and the CUDA form.
//   T positions, D columns, H heads, Hkv key-value heads, d columns of a head, F feed-forward columns, n sequences. All
//   tensors are contiguous, and in the memory of the device that runs the kernel; weights, statistics and sums are
//   float32. No ATen and no standard templates here: the CPU forms are compiled for instruction sets that the rest of
//   the program may not use, the CUDA forms by nvcc.
#pragma once

#include <cstdint>

namespace vixen {

/// Storage of activations; arithmetic is float32. bfloat16 is rounded to nearest even.
enum class Storage { kFloat32, kBfloat16 };
/// Storage of a word table, which may be frozen and then as its file has it.
enum class TableStorage { kFloat32, kBfloat16, kFloat16 };

/// kernels/dropout.hpp, ready for use. threshold 0: no dropout.
struct DropoutKey {
  uint32_t threshold = 0;  // of 65536
  float scale = 1;         // 1 / (1 - p)
  uint32_t key0 = 0, key1 = 0, step = 0, site = 0;
  const int64_t* device_step = nullptr;  // where the device reads the step instead; null: it is `step`
};

/// Sequence key and position of each row; null without dropout.
struct RowKeys {
  const int64_t* sequence = nullptr;
  const int32_t* position = nullptr;
};

struct DropoutArgs {
  Storage storage;
  int64_t width;
  const void* x;
  void* y;
  RowKeys keys;
  DropoutKey dropout;
};

struct NormForwardArgs {
  Storage storage;
  int64_t width;
  float eps;
  const void* x;         // [T, D]
  const void* residual;  // [T, D] or null
  const float* weight;
  const float* bias;
  void* sum;     // [T, D], null: x is what is normalised
  void* y;       // [T, D]
  float* stats;  // [T, 2]
  RowKeys keys;
  DropoutKey dropout;
  bool dropout_after;  // of y instead of x
};

struct NormBackwardArgs {
  Storage storage;
  int64_t width;
  int64_t rows;            // T
  int64_t rows_per_chunk;  // chunk c: rows c * rows_per_chunk ..
  const void* grad_y;
  const void* sum;
  const float* stats;
  const float* weight;
  void* grad_sum;   // [T, D]
  void* grad_x;     // [T, D], null: no dropout before the norm
  float* partials;  // [chunks, 2, D]: gradients of weight and bias by the rows of each chunk
  RowKeys keys;
  DropoutKey dropout;
  bool dropout_after;
};

struct RmsForwardArgs {
  Storage storage;
  int64_t width;
  float eps;
  const void* x;         // [T, D]
  const void* residual;  // [T, D] or null
  const float* weight;
  void* sum;    // [T, D], null: x is what is normalised
  void* y;      // [T, D]
  float* rstd;  // [T]: written by the forward, read when y is recomputed
};

struct RmsBackwardArgs {
  Storage storage;
  int64_t width;
  int64_t rows;            // T
  int64_t rows_per_chunk;  // chunk c: rows c * rows_per_chunk ..
  const void* grad_y;
  const void* grad_along;  // [T, D] or null: what is added to the gradient of the sum
  const void* sum;
  const float* rstd;
  const float* weight;
  void* grad_sum;   // [T, D]
  float* partials;  // [chunks, D]: gradients of weight by the rows of each chunk; null: the weight is frozen
};

struct HeadNormArgs {
  Storage storage;
  int64_t heads, kv_heads, head_dim;
  float eps;      // forward only
  const void* x;  // [T, (H + 2 Hkv) d]
  float* rstd;    // [T, H + Hkv], written by the forward, read by the backward
  const float *q_weight, *k_weight;
  void* out;               // as x: the normalised rows, or the gradient of x
  int64_t rows;            // T; this and the rest: backward only
  int64_t rows_per_chunk;  // chunk c: rows c * rows_per_chunk ..
  const void* grad;        // as x
  float* partials;         // [chunks, 2, d]: gradients of the two weights; null: both are frozen
};

struct RopeArgs {
  Storage storage;
  int64_t row_width;  // (H + 2 Hkv) d
  int64_t heads;      // H + Hkv: those that are rotated, the first of a row
  int64_t head_dim;
  void* qkv;  // [T, row_width], rotated in place
  const int64_t* position_ids;
  const float* table;  // [P, d]: cos | sin
  bool inverse;
};

struct SwigluArgs {
  Storage storage;
  int64_t width;        // F
  const void* gate_up;  // [T, 2F]
  const void* grad;     // [T, F], backward only
  void* out;            // [T, F] forward, [T, 2F] backward
  void* activation;     // [T, F], or null: what the forward made, once more; may be grad's place; backward only
};

struct GeluArgs {
  Storage storage;
  const void* x;
  const void* grad;  // backward only
  void* out;
};

struct ColumnSumsArgs {
  Storage storage;
  int64_t width;
  int64_t rows;
  int64_t rows_per_chunk;
  const void* x;
  float* partials;  // [chunks, width]
};

struct AttentionArgs {
  Storage storage;
  int64_t positions;  // T
  int64_t heads;
  int64_t kv_heads;  // divides heads
  int64_t head_dim;
  int64_t max_seqlen;
  bool causal;
  const int32_t* offsets;        // [n+1]
  const int64_t* sequence_keys;  // [n]
  const void* qkv;               // [T, (H + 2 Hkv) d]
  void* context;                 // [T, H d], forward
  float* lse;                    // [H, T], written by the forward, read by the backward
  const void* grad_context;      // [T, H d], backward
  void* grad_qkv;                // [T, (H + 2 Hkv) d], backward
  float* scratch;                // CPU: zeroed, CpuKernels::attention_scratch floats of each thread's own; CUDA: null
  DropoutKey dropout;
};

struct EmbedPositionsArgs {
  Storage storage;  // of out
  int64_t width;
  const int64_t* tokens;
  const int64_t* position_ids;
  const int64_t* image_rows;  // [T]: row of images, -1 for text; null: all text
  const float* word;
  const float* position;
  const float* type;  // null: none
  const float* images;
  void* out;
};

struct EmbedTokensArgs {
  Storage storage;  // of out
  TableStorage table_storage;
  int64_t width;
  const int64_t* tokens;
  const int64_t* image_rows;  // as EmbedPositionsArgs
  const void* word;           // [V, D]
  const float* images;
  void* out;
};

/// target[target_rows[s]] += sum of x[order[i]] for i in segments[s] .. segments[s+1], in that order.
struct SegmentSumsArgs {
  Storage storage;  // of x
  int64_t width;
  const void* x;
  const int64_t* order;
  const int64_t* segments;
  const int64_t* target_rows;
  float* target;
};

struct PoolArgs {
  Storage storage;
  int64_t width;
  const int32_t* offsets;
  void* x;        // [T, D]: read by the forward, written by the backward
  float* pooled;  // [n, D]: written by the forward, read by the backward
};

}  // namespace vixen

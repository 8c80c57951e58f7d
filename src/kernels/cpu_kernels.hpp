// The fused CPU kernels as a table of plain functions over raw pointers, one table for each instruction set.
//   T positions, D columns, H heads, Hkv key-value heads, d columns of a head, F feed-forward columns. Every function
//   works on a range of rows (or chunks) and is sequential: the caller splits the range over threads. No row's result
//   depends on the split. No ATen and no standard templates here: the translation units of the tables are compiled for
//   instruction sets that the rest of the program may not use.
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
};

/// Sequence key and position of each row; null without dropout.
struct RowKeys {
  const int64_t* sequence = nullptr;
  const int32_t* position = nullptr;
};

struct DropoutRows {
  Storage storage;
  int64_t width;
  const void* x;
  void* y;
  RowKeys keys;
  DropoutKey dropout;
};

struct NormForward {
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

struct NormBackward {
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

struct RmsForward {
  Storage storage;
  int64_t width;
  float eps;
  const void* x;         // [T, D]
  const void* residual;  // [T, D] or null
  const float* weight;
  void* sum;    // [T, D], null: x is what is normalised
  void* y;      // [T, D]
  float* rstd;  // [T]: written by the forward, read when y is made again
};

struct RmsBackward {
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
};

struct GeluArgs {
  Storage storage;
  const void* x;
  const void* grad;  // backward only
  void* out;
};

struct ColumnSums {
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
  DropoutKey dropout;
};

struct EmbedRows {
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

struct EmbedTokens {
  Storage storage;  // of out
  TableStorage table_storage;
  int64_t width;
  const int64_t* tokens;
  const int64_t* image_rows;  // as EmbedRows
  const void* word;           // [V, D]
  const float* images;
  void* out;
};

/// target[target_rows[s]] += sum of x[order[i]] for i in segments[s] .. segments[s+1], in that order.
struct SegmentSums {
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

struct CpuKernels {
  const char* isa;
  void (*dropout)(const DropoutRows&, int64_t begin, int64_t end);              // rows
  void (*norm_forward)(const NormForward&, int64_t begin, int64_t end);         // rows
  void (*norm_backward)(const NormBackward&, int64_t begin, int64_t end);       // chunks
  void (*rms_forward)(const RmsForward&, int64_t begin, int64_t end);           // rows
  void (*rms_again)(const RmsForward&, int64_t begin, int64_t end);             // rows: y from x and rstd
  void (*rms_backward)(const RmsBackward&, int64_t begin, int64_t end);         // chunks
  void (*head_norm)(const HeadNormArgs&, int64_t begin, int64_t end);           // rows
  void (*head_norm_backward)(const HeadNormArgs&, int64_t begin, int64_t end);  // chunks
  void (*rope)(const RopeArgs&, int64_t begin, int64_t end);                    // rows
  void (*swiglu)(const SwigluArgs&, int64_t begin, int64_t end);                // rows
  void (*swiglu_backward)(const SwigluArgs&, int64_t begin, int64_t end);       // rows
  void (*gelu)(const GeluArgs&, int64_t begin, int64_t end);                    // elements
  void (*gelu_backward)(const GeluArgs&, int64_t begin, int64_t end);           // elements
  void (*column_sums)(const ColumnSums&, int64_t begin, int64_t end);           // chunks
  int64_t (*attention_scratch)(int64_t max_seqlen, int64_t head_dim);           // floats, zeroed by the caller
  void (*attention_forward)(const AttentionArgs&, float* scratch, int64_t begin,
                            int64_t end);  // sequence * Hkv + kv head
  void (*attention_backward)(const AttentionArgs&, float* scratch, int64_t begin,
                             int64_t end);                                  // sequence * Hkv + kv head
  void (*embed)(const EmbedRows&, int64_t begin, int64_t end);              // rows
  void (*embed_tokens)(const EmbedTokens&, int64_t begin, int64_t end);     // rows
  void (*segment_sums)(const SegmentSums&, int64_t begin, int64_t end);     // segments
  void (*mean_pool)(const PoolArgs&, int64_t begin, int64_t end);           // sequences
  void (*mean_pool_backward)(const PoolArgs&, int64_t begin, int64_t end);  // sequences
};

/// The table of the best instruction set of this machine, or of the forced one.
const CpuKernels& cpu_kernels();

/// For tests and benchmarks: use "avx512", "avx2" or "baseline" from now on, nullptr for the best again. False, and
/// nothing changes, when this machine cannot run it. Not thread-safe.
bool force_cpu_isa(const char* isa);

}  // namespace vixen

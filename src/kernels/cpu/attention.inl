// Self-attention of one (sequence, key-value head) at a time, with the query heads that share it, everything of it in
// float32 scratch.
//   L positions, d columns of the head padded to P (a multiple of 32); scores of kRows queries at a time, [kRows, K]
//   with K = L rounded up to whole vectors. Causal: the kRows queries from `top` on meet the first top + kRows keys
//   only, and the rest of what they do not see is masked. Included by cpu/kernels.inl.

constexpr int64_t kRows = 16;                                          // queries whose scores are held at once
constexpr int64_t kPad = 32;                                           // head columns are handled 32 at a time
constexpr int64_t kVectors = kPad / kLanes;                            // which is so many vectors
constexpr int64_t kTogether = kLanes == 16 ? 4 : kLanes == 8 ? 2 : 1;  // rows that share a load, as registers allow

/// The scratch of one thread, carved out of one zeroed buffer.
struct AttentionScratch {
  int64_t padded;                     // P
  float *q, *k, *v, *grad;            // [L rounded up to kRows, P]
  float *grad_k, *grad_v;             // the same
  float *k_columns, *v_columns;       // [P, K]
  float *scores, *grad_scores;        // [kRows, K]
  float* rows;                        // [kRows, P]
  float* keep;                        // [kRows, 8 ceil(L / 8)] and slack
  uint64_t *lane_query, *lane_block;  // of each Philox block of kRows queries
  int64_t blocks = 0;                 // a query's blocks, for which the two were filled

  VIXEN_INLINE static int64_t keep_floats(int64_t length) { return kRows * round_up(length, 8) + 2 * kDraws; }
  VIXEN_INLINE static int64_t lane_words(int64_t length) { return kRows * ((length + 7) / 8) + 2 * kBlocks; }
  static int64_t floats(int64_t length, int64_t head_dim) {
    const int64_t columns = round_up(head_dim, kPad), rows = round_up(length, kRows), keys = round_up(length, kLanes);
    return 6 * rows * columns + 2 * columns * keys + 2 * kRows * keys + kRows * columns + keep_floats(length) +
           4 * lane_words(length) + int64_t{16} * 16;  // and slack for rounding each to cache lines
  }
  AttentionScratch(float* buffer, int64_t length, int64_t head_dim) : padded(round_up(head_dim, kPad)) {
    const int64_t rows_count = round_up(length, kRows), keys = round_up(length, kLanes);
    const auto take = [&](int64_t count) {
      float* start = buffer;
      buffer += round_up(count, 16);  // whole cache lines
      return start;
    };
    // 64-bit words first, while the buffer is aligned for them.
    lane_query = reinterpret_cast<uint64_t*>(take(2 * lane_words(length)));
    lane_block = reinterpret_cast<uint64_t*>(take(2 * lane_words(length)));
    float** const row_buffers[] = {&q, &k, &v, &grad, &grad_k, &grad_v};
    for (float** rows_buffer : row_buffers) *rows_buffer = take(rows_count * padded);
    k_columns = take(padded * keys);
    v_columns = take(padded * keys);
    scores = take(kRows * keys);
    grad_scores = take(kRows * keys);
    rows = take(kRows * padded);
    keep = take(keep_floats(length));
  }
};

template <class T>
VIXEN_INLINE void read_rows(const T* source, int64_t stride, int64_t rows, int64_t columns, float scale, float* out,
                            int64_t padded) {
  for (int64_t row = 0; row < rows; ++row)
    for_vectors(columns, [&](int64_t c, auto n) {
      store(out + row * padded + c, load(source + row * stride + c, n) * scale, n);
    });
}

template <class T>
VIXEN_INLINE void write_rows(const float* source, int64_t padded, int64_t rows, int64_t columns, float scale, T* out,
                             int64_t stride) {
  for (int64_t row = 0; row < rows; ++row)
    for_vectors(columns, [&](int64_t c, auto n) {
      store(out + row * stride + c, load(source + row * padded + c, n) * scale, n);
    });
}

/// rows [L, P] -> columns [d, K], by squares of four. Columns L .. K are left as they are.
VIXEN_INLINE void transpose(const float* rows, int64_t padded, int64_t length, int64_t head_dim, int64_t keys,
                            float* columns) {
  typedef float Four __attribute__((vector_size(16)));
  for (int64_t j = 0; j < length; j += 4) {
    for (int64_t c = 0; c < head_dim; c += 4) {
      Four in[4];
      for (int64_t i = 0; i < 4; ++i) __builtin_memcpy(&in[i], rows + (j + i) * padded + c, sizeof in[i]);
      const Four a = __builtin_shufflevector(in[0], in[1], 0, 4, 1, 5),
                 b = __builtin_shufflevector(in[2], in[3], 0, 4, 1, 5);
      const Four d = __builtin_shufflevector(in[0], in[1], 2, 6, 3, 7),
                 e = __builtin_shufflevector(in[2], in[3], 2, 6, 3, 7);
      const Four out[4] = {__builtin_shufflevector(a, b, 0, 1, 4, 5), __builtin_shufflevector(a, b, 2, 3, 6, 7),
                           __builtin_shufflevector(d, e, 0, 1, 4, 5), __builtin_shufflevector(d, e, 2, 3, 6, 7)};
      for (int64_t i = 0; i < 4; ++i) __builtin_memcpy(columns + (c + i) * keys + j, &out[i], sizeof out[i]);
    }
  }
}

/// Asks for this item's share of the rows that the next sequence will read: its items take turns at the same rows, in
/// pieces too short for the hardware to foresee.
template <class T>
VIXEN_INLINE void prefetch_share(const T* rows, int64_t count, int64_t item, int64_t items) {
  const int64_t lines = count * static_cast<int64_t>(sizeof(T)) / 64;
  if (lines > 4096) return;  // a long sequence is its own neighbour
  const char* bytes = reinterpret_cast<const char*>(rows);
  for (int64_t line = lines * item / items; line <= lines * (item + 1) / items; ++line)
    __builtin_prefetch(bytes + 64 * line);
}

/// out [kRows, K]: products of up to kRows rows with the first `reach` keys (whole vectors), of K = `keys` columns and
/// out have. Rows beyond `count` come out as garbage.
template <int kWide>
VIXEN_INLINE void products_at(const float* rows, int64_t padded, const float* columns, int64_t head_dim, int64_t keys,
                              float* out) {
  VF sums[4][kWide] = {};
  for (int64_t c = 0; c < head_dim; ++c) {
    VF key[kWide];
    for (int w = 0; w < kWide; ++w) key[w] = load(columns + c * keys + w * kLanes);
    for (int r = 0; r < 4; ++r)
      for (int w = 0; w < kWide; ++w) sums[r][w] += rows[r * padded + c] * key[w];
  }
  for (int r = 0; r < 4; ++r)
    for (int w = 0; w < kWide; ++w) store(out + r * keys + w * kLanes, sums[r][w]);
}
VIXEN_INLINE void products(const float* rows, int64_t padded, int64_t count, const float* columns, int64_t head_dim,
                           int64_t keys, int64_t reach, float* out) {
  constexpr int kWide = kLanes == 16 ? 4 : 2;
  for (int64_t r = 0; r < count; r += 4) {
    int64_t j = 0;
    for (; j + kWide * kLanes <= reach; j += kWide * kLanes)
      products_at<kWide>(rows + r * padded, padded, columns + j, head_dim, keys, out + r * keys + j);
    for (; j < reach; j += kLanes)
      products_at<1>(rows + r * padded, padded, columns + j, head_dim, keys, out + r * keys + j);
  }
}

/// out[i] = (add ? out[i] : 0) + sum over k < inner of weights[i * outer_step + k * inner_step] * rows[k], i < count.
/// out, rows [., P]. With kTogether rows at once; out and weights must reach to whole groups of them.
VIXEN_INLINE void combine(const float* weights, int64_t outer_step, int64_t inner_step, int64_t count, int64_t inner,
                          const float* rows, int64_t padded, bool add, float* out) {
  for (int64_t i = 0; i < count; i += kTogether) {
    for (int64_t c = 0; c < padded; c += kPad) {
      VF sums[kTogether][kVectors];
      for (int64_t r = 0; r < kTogether; ++r)
        for (int64_t w = 0; w < kVectors; ++w) sums[r][w] = add ? load(out + (i + r) * padded + c + w * kLanes) : VF{};
      for (int64_t k = 0; k < inner; ++k) {
        VF row[kVectors];
        for (int64_t w = 0; w < kVectors; ++w) row[w] = load(rows + k * padded + c + w * kLanes);
        for (int64_t r = 0; r < kTogether; ++r) {
          const float weight = weights[(i + r) * outer_step + k * inner_step];
          for (int64_t w = 0; w < kVectors; ++w) sums[r][w] += weight * row[w];
        }
      }
      for (int64_t r = 0; r < kTogether; ++r)
        for (int64_t w = 0; w < kVectors; ++w) store(out + (i + r) * padded + c + w * kLanes, sums[r][w]);
    }
  }
}

/// Keep factors of queries first .. first + count against L keys: row r begins at keep + r * 8 * blocks.
VIXEN_INLINE void attention_keep(AttentionScratch& s, const DropoutDraw& dropout, int64_t sequence_key, int64_t head,
                                 int64_t first, int64_t count, int64_t length) {
  const int64_t blocks = (length + 7) / 8;
  if (blocks != s.blocks) {
    for (int64_t i = 0; i < kRows * blocks; ++i) {
      s.lane_query[i] = static_cast<uint64_t>(i / blocks);
      s.lane_block[i] = static_cast<uint64_t>(i % blocks);
    }
    s.blocks = blocks;
  }
  const VQ sequence = VQ{} + static_cast<uint64_t>(static_cast<uint32_t>(sequence_key));
  const uint64_t position = dropout.site + static_cast<uint64_t>(first);
  for (int64_t i = 0; i < count * blocks; i += kBlocks) {
    VQ block, query;
    __builtin_memcpy(&block, s.lane_block + i, sizeof block);
    __builtin_memcpy(&query, s.lane_query + i, sizeof query);
    keep_factors(block + static_cast<uint64_t>(head * 8192), sequence, query + position, dropout, s.keep + 8 * i);
  }
}

VIXEN_INLINE VI valid_lanes(int64_t first, int64_t length) {
  return lane_numbers() < static_cast<int32_t>(length - first);
}

/// Where the parts of one item lie: rows of a sequence, `stride` apart, of the query heads that share a key-value head.
struct AttentionItem {
  int64_t sequence, kv_head, group;                // group: query heads of the key-value head
  int64_t first, length, keys;                     // positions first .. first + length; K
  int64_t stride, context_stride;                  // (H + 2 Hkv) d, H d
  int64_t query_column, key_column, value_column;  // of the first query head, and of the key-value head
  VIXEN_INLINE AttentionItem(const AttentionArgs& a, int64_t item)
      : sequence(item / a.kv_heads),
        kv_head(item % a.kv_heads),
        group(a.heads / a.kv_heads),
        first(a.offsets[sequence]),
        length(a.offsets[sequence + 1] - first),
        keys(round_up(length, kLanes)),
        stride((a.heads + 2 * a.kv_heads) * a.head_dim),
        context_stride(a.heads * a.head_dim),
        query_column(kv_head * group * a.head_dim),
        key_column((a.heads + kv_head) * a.head_dim),
        value_column((a.heads + a.kv_heads + kv_head) * a.head_dim) {}
};

template <class T>
void attention_forward_items(const AttentionArgs& a, int64_t begin, int64_t end) {
  const int64_t d = a.head_dim;
  const float scale = 1.0f / __builtin_sqrtf(static_cast<float>(d));
  AttentionScratch s(a.scratch, a.max_seqlen, d);
  const DropoutDraw draw(a.dropout);
  const bool drop = draw.threshold != 0;
  for (int64_t number = begin; number < end; ++number) {
    const AttentionItem item(a, number);
    const int64_t first = item.first, length = item.length, keys = item.keys;
    const T* qkv = static_cast<const T*>(a.qkv) + first * item.stride;
    if ((item.sequence + 1) * a.kv_heads < end) {
      const int64_t next = first + length, rows = a.offsets[item.sequence + 2] - next;
      prefetch_share(static_cast<const T*>(a.qkv) + next * item.stride, rows * item.stride, item.kv_head, a.kv_heads);
    }
    read_rows(qkv + item.key_column, item.stride, length, d, 1.0f, s.k, s.padded);
    read_rows(qkv + item.value_column, item.stride, length, d, 1.0f, s.v, s.padded);
    transpose(s.k, s.padded, length, d, keys, s.k_columns);
    for (int64_t member = 0; member < item.group; ++member) {
      const int64_t head = item.kv_head * item.group + member;
      read_rows(qkv + item.query_column + member * d, item.stride, length, d, scale, s.q, s.padded);
      for (int64_t top = 0; top < length; top += kRows) {
        const int64_t count = smaller(kRows, length - top);
        const int64_t met = a.causal ? top + count : length, reach = round_up(met, kLanes);
        products(s.q + top * s.padded, s.padded, count, s.k_columns, d, keys, reach, s.scores);
        if (drop) attention_keep(s, draw, a.sequence_keys[item.sequence], head, top, count, length);
        for (int64_t r = 0; r < count; ++r) {
          const int64_t seen = a.causal ? top + r + 1 : length;
          float* row = s.scores + r * keys;
          VF most = splat(-3e38f);
          for (int64_t j = 0; j < reach; j += kLanes) {
            const VF v = valid_lanes(j, seen) ? load(row + j) : splat(-3e38f);
            store(row + j, v);
            most = larger(v, most);
          }
          const float peak = largest_lane(most);
          VF total{};
          for (int64_t j = 0; j < reach; j += kLanes) {
            const VF v = valid_lanes(j, seen) ? exp_lanes(load(row + j) - peak) : VF{};
            store(row + j, v);
            total += v;
          }
          const float sum = sum_lanes(total), inverse = 1.0f / sum;
          a.lse[head * a.positions + first + top + r] = peak + __builtin_logf(sum);
          for (int64_t j = 0; j < reach; j += kLanes) {
            VF v = load(row + j) * inverse;
            if (drop) v *= load(s.keep + r * 8 * s.blocks + j);
            store(row + j, v);
          }
        }
        combine(s.scores, keys, 1, count, met, s.v, s.padded, false, s.rows);
        write_rows(s.rows, s.padded, count, d, 1.0f,
                   static_cast<T*>(a.context) + (first + top) * item.context_stride + head * d, item.context_stride);
      }
    }
  }
}

template <class T>
void attention_backward_items(const AttentionArgs& a, int64_t begin, int64_t end) {
  const int64_t d = a.head_dim;
  const float scale = 1.0f / __builtin_sqrtf(static_cast<float>(d));
  AttentionScratch s(a.scratch, a.max_seqlen, d);
  const DropoutDraw draw(a.dropout);
  const bool drop = draw.threshold != 0;
  for (int64_t number = begin; number < end; ++number) {
    const AttentionItem item(a, number);
    const int64_t first = item.first, length = item.length, keys = item.keys;
    const T* qkv = static_cast<const T*>(a.qkv) + first * item.stride;
    const T* grad_context = static_cast<const T*>(a.grad_context) + first * item.context_stride;
    T* grad_qkv = static_cast<T*>(a.grad_qkv) + first * item.stride;
    if ((item.sequence + 1) * a.kv_heads < end) {
      const int64_t next = first + length, rows = a.offsets[item.sequence + 2] - next;
      prefetch_share(static_cast<const T*>(a.qkv) + next * item.stride, rows * item.stride, item.kv_head, a.kv_heads);
      prefetch_share(static_cast<const T*>(a.grad_context) + next * item.context_stride, rows * item.context_stride,
                     item.kv_head, a.kv_heads);
    }
    read_rows(qkv + item.key_column, item.stride, length, d, 1.0f, s.k, s.padded);
    read_rows(qkv + item.value_column, item.stride, length, d, 1.0f, s.v, s.padded);
    transpose(s.k, s.padded, length, d, keys, s.k_columns);
    transpose(s.v, s.padded, length, d, keys, s.v_columns);
    if (a.causal) {  // the first queries give nothing to later keys, which must be something to add to
      const int64_t floats = round_up(length, kRows) * s.padded;
      for (int64_t i = 0; i < floats; i += kLanes) {
        store(s.grad_k + i, VF{});
        store(s.grad_v + i, VF{});
      }
    }
    for (int64_t member = 0; member < item.group; ++member) {
      const int64_t head = item.kv_head * item.group + member, column = item.query_column + member * d;
      read_rows(qkv + column, item.stride, length, d, scale, s.q, s.padded);
      read_rows(grad_context + head * d, item.context_stride, length, d, 1.0f, s.grad, s.padded);
      for (int64_t top = 0; top < length; top += kRows) {
        const int64_t count = smaller(kRows, length - top);
        const int64_t met = a.causal ? top + count : length, reach = round_up(met, kLanes);
        products(s.q + top * s.padded, s.padded, count, s.k_columns, d, keys, reach, s.scores);
        products(s.grad + top * s.padded, s.padded, count, s.v_columns, d, keys, reach, s.grad_scores);
        if (drop) attention_keep(s, draw, a.sequence_keys[item.sequence], head, top, count, length);
        for (int64_t r = 0; r < count; ++r) {
          const int64_t seen = a.causal ? top + r + 1 : length;
          float *row = s.scores + r * keys, *grad_row = s.grad_scores + r * keys;
          const float lse = a.lse[head * a.positions + first + top + r];
          VF total{};
          for (int64_t j = 0; j < reach; j += kLanes) {
            const VF p = valid_lanes(j, seen) ? exp_lanes(load(row + j) - lse) : VF{};
            VF g = valid_lanes(j, seen) ? load(grad_row + j) : VF{};
            if (drop) g *= load(s.keep + r * 8 * s.blocks + j);
            store(row + j, p);
            store(grad_row + j, g);
            total += p * g;
          }
          const float dot = sum_lanes(total);
          for (int64_t j = 0; j < reach; j += kLanes) {
            const VF p = load(row + j);
            const VF grad_score = p * (load(grad_row + j) - dot);
            store(row + j, drop ? p * load(s.keep + r * 8 * s.blocks + j) : p);
            store(grad_row + j, grad_score);
          }
        }
        const bool add = a.causal || top > 0 || member > 0;
        combine(s.grad_scores, keys, 1, count, met, s.k, s.padded, false, s.rows);
        write_rows(s.rows, s.padded, count, d, scale, grad_qkv + top * item.stride + column, item.stride);
        combine(s.grad_scores, 1, keys, met, count, s.q + top * s.padded, s.padded, add, s.grad_k);
        combine(s.scores, 1, keys, met, count, s.grad + top * s.padded, s.padded, add, s.grad_v);
      }
    }
    write_rows(s.grad_k, s.padded, length, d, 1.0f, grad_qkv + item.key_column, item.stride);
    write_rows(s.grad_v, s.padded, length, d, 1.0f, grad_qkv + item.value_column, item.stride);
  }
}

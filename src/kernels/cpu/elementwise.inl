// GELU, SwiGLU, rotary positions, dropout, column sums, embeddings and pooling: one pass over memory each.
//   Included by cpu/kernels.inl.

/// Upper tail of the normal distribution at |x|, and exp(-x^2 / 2). The tail is exp(-x^2 / 2) times a rational minimax
/// fit of its smooth rest, so that GELU's left side, which is x times the tail, loses nothing to cancellation.
struct NormalTail {
  VF tail, bell;
};
VIXEN_INLINE NormalTail normal_tail(VF x) {
  const VF size = larger(x, -x);
  const VF bell = exp_lanes(x * x * -0.5f);
  VF top = splat(0.01047551166266203f);
  top = top * size + 0.0892123356461525f;
  top = top * size + 0.3037390410900116f;
  top = top * size + 0.5f;
  VF bottom = splat(0.026325266808271408f);
  bottom = bottom * size + 0.22232140600681305f;
  bottom = bottom * size + 0.799744188785553f;
  bottom = bottom * size + 1.4053624868392944f;
  bottom = bottom * size + 1.0f;
  return {quotient(bell * top, bottom), bell};
}

template <class T>
void gelu_elements(const GeluArgs& a, int64_t begin, int64_t end) {
  const T* x = static_cast<const T*>(a.x) + begin;
  T* out = static_cast<T*>(a.out) + begin;
  for_vectors(end - begin, [&](int64_t i, auto n) {
    const VF v = load(x + i, n);
    const VF below = v * normal_tail(v).tail;
    store(out + i, (v > 0.0f) ? v - below : below, n);
  });
}

template <class T>
void gelu_backward_elements(const GeluArgs& a, int64_t begin, int64_t end) {
  constexpr float kInverseSqrt2Pi = 0.398942280401432678f;
  const T* x = static_cast<const T*>(a.x) + begin;
  const T* grad = static_cast<const T*>(a.grad) + begin;
  T* out = static_cast<T*>(a.out) + begin;
  for_vectors(end - begin, [&](int64_t i, auto n) {
    const VF v = load(x + i, n);
    const NormalTail normal = normal_tail(v);
    const VF below = (v > 0.0f) ? 1.0f - normal.tail : normal.tail;
    store(out + i, load(grad + i, n) * (below + v * normal.bell * kInverseSqrt2Pi), n);
  });
}

/// sigmoid(x) and 1 - sigmoid(x), neither by a difference: 1 / (1 + e) and e / (1 + e) with e = exp(-x), x at least
/// -87, below which the reciprocal would be subnormal.
struct Sigmoid {
  VF value, rest;
};
VIXEN_INLINE Sigmoid sigmoid(VF x) {
  const VF e = exp_lanes(-larger(splat(-87.0f), x));
  const VF value = quotient(splat(1.0f), 1.0f + e);
  return {value, e * value};
}

template <class T>
void swiglu_rows(const SwigluArgs& a, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const T* gate = static_cast<const T*>(a.gate_up) + row * 2 * a.width;
    const T* up = gate + a.width;
    T* out = static_cast<T*>(a.out) + row * a.width;
    for_vectors(a.width, [&](int64_t c, auto n) {
      const VF g = load(gate + c, n);
      store(out + c, g * sigmoid(g).value * load(up + c, n), n);
    });
  }
}

template <class T, bool kActivation>
VIXEN_INLINE void swiglu_backward_of(const SwigluArgs& a, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const T* gate = static_cast<const T*>(a.gate_up) + row * 2 * a.width;
    const T* up = gate + a.width;
    const T* grad = static_cast<const T*>(a.grad) + row * a.width;
    T* grad_gate = static_cast<T*>(a.out) + row * 2 * a.width;
    T* grad_up = grad_gate + a.width;
    for_vectors(a.width, [&](int64_t c, auto n) {
      const VF g = load(gate + c, n), d = load(grad + c, n);
      const Sigmoid s = sigmoid(g);
      store(grad_gate + c, d * load(up + c, n) * (s.value * (1.0f + g * s.rest)), n);
      store(grad_up + c, d * (g * s.value), n);
      if (kActivation) store(static_cast<T*>(a.activation) + row * a.width + c, g * s.value * load(up + c, n), n);
    });
  }
}
template <class T>
void swiglu_backward_rows(const SwigluArgs& a, int64_t begin, int64_t end) {
  a.activation ? swiglu_backward_of<T, true>(a, begin, end) : swiglu_backward_of<T, false>(a, begin, end);
}

template <class T>
void rope_rows(const RopeArgs& a, int64_t begin, int64_t end) {
  const int64_t half = a.head_dim / 2;
  for (int64_t row = begin; row < end; ++row) {
    const float* cosines = a.table + a.position_ids[row] * a.head_dim;
    const float* sines = cosines + half;
    T* const first = static_cast<T*>(a.qkv) + row * a.row_width;
    for_vectors(half, [&](int64_t c, auto n) {
      const VF cosine = load(cosines + c, n);
      const VF sine = a.inverse ? -load(sines + c, n) : load(sines + c, n);
      T* left = first + c;
      for (int64_t head = 0; head < a.heads; ++head, left += a.head_dim) {
        const VF x = load(left, n), y = load(left + half, n);
        store(left, x * cosine - y * sine, n);
        store(left + half, y * cosine + x * sine, n);
      }
    });
  }
}

template <class T>
void dropout_rows(const DropoutArgs& a, int64_t begin, int64_t end) {
  const DropoutDraw draw(a.dropout);
  for (int64_t row = begin; row < end; ++row) {
    const T* x = static_cast<const T*>(a.x) + row * a.width;
    T* y = static_cast<T*>(a.y) + row * a.width;
    RowDropout dropout(draw, a.keys, row);
    for_vectors(a.width, [&](int64_t c, auto n) { store(y + c, load(x + c, n) * dropout.at(c), n); });
  }
}

template <class T>
void column_sums_chunks(const ColumnSumsArgs& a, int64_t begin, int64_t end) {
  const int64_t width = a.width;
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    float* sums = a.partials + chunk * width;
    for (int64_t c = 0; c < width; ++c) sums[c] = 0;
    const int64_t last = smaller(a.rows, (chunk + 1) * a.rows_per_chunk);
    int64_t row = chunk * a.rows_per_chunk;
    for (; row + 4 <= last; row += 4) {
      const T* x = static_cast<const T*>(a.x) + row * width;
      for_vectors(width, [&](int64_t c, auto n) {
        const VF pair = load(x + c, n) + load(x + width + c, n);
        const VF other = load(x + 2 * width + c, n) + load(x + 3 * width + c, n);
        store(sums + c, load(sums + c, n) + (pair + other), n);
      });
    }
    for (; row < last; ++row) {
      const T* x = static_cast<const T*>(a.x) + row * width;
      for_vectors(width, [&](int64_t c, auto n) { store(sums + c, load(sums + c, n) + load(x + c, n), n); });
    }
  }
}

template <class T>
void embed_positions_rows(const EmbedPositionsArgs& a, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const int64_t image = a.image_rows ? a.image_rows[row] : -1;
    const float* word = image >= 0 ? a.images + image * a.width : a.word + a.tokens[row] * a.width;
    const float* position = a.position + a.position_ids[row] * a.width;
    T* out = static_cast<T*>(a.out) + row * a.width;
    for_vectors(a.width, [&](int64_t c, auto n) {
      VF v = load(word + c, n) + load(position + c, n);
      if (a.type) v += load(a.type + c, n);
      store(out + c, v, n);
    });
  }
}

template <class T, class Word>
VIXEN_INLINE void embed_tokens_from(const EmbedTokensArgs& a, const Word* table, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const int64_t image = a.image_rows ? a.image_rows[row] : -1;
    T* out = static_cast<T*>(a.out) + row * a.width;
    if (image >= 0) {
      const float* picture = a.images + image * a.width;
      for_vectors(a.width, [&](int64_t c, auto n) { store(out + c, load(picture + c, n), n); });
    } else {
      const Word* word = table + a.tokens[row] * a.width;
      for_vectors(a.width, [&](int64_t c, auto n) { store(out + c, load(word + c, n), n); });
    }
  }
}

template <class T>
void embed_tokens_rows(const EmbedTokensArgs& a, int64_t begin, int64_t end) {
  switch (a.table_storage) {
    case TableStorage::kFloat32:
      return embed_tokens_from<T>(a, static_cast<const float*>(a.word), begin, end);
    case TableStorage::kBfloat16:
      return embed_tokens_from<T>(a, static_cast<const uint16_t*>(a.word), begin, end);
    case TableStorage::kFloat16:
      return embed_tokens_from<T>(a, static_cast<const Half*>(a.word), begin, end);
  }
}

template <class T>
void segment_sums_segments(const SegmentSumsArgs& a, int64_t begin, int64_t end) {
  for (int64_t s = begin; s < end; ++s) {
    float* target = a.target + a.target_rows[s] * a.width;
    for (int64_t i = a.segments[s]; i < a.segments[s + 1]; ++i) {
      const T* x = static_cast<const T*>(a.x) + a.order[i] * a.width;
      for_vectors(a.width, [&](int64_t c, auto n) { store(target + c, load(target + c, n) + load(x + c, n), n); });
    }
  }
}

template <class T>
void mean_pool_sequences(const PoolArgs& a, int64_t begin, int64_t end) {
  for (int64_t s = begin; s < end; ++s) {
    const int64_t first = a.offsets[s], last = a.offsets[s + 1];
    const float share = 1.0f / static_cast<float>(last - first);
    float* pooled = a.pooled + s * a.width;
    for_vectors(a.width, [&](int64_t c, auto n) {
      VF total{};
      for (int64_t row = first; row < last; ++row) total += load(static_cast<const T*>(a.x) + row * a.width + c, n);
      store(pooled + c, total * share, n);
    });
  }
}

template <class T>
void mean_pool_backward_sequences(const PoolArgs& a, int64_t begin, int64_t end) {
  for (int64_t s = begin; s < end; ++s) {
    const int64_t first = a.offsets[s], last = a.offsets[s + 1];
    const float share = 1.0f / static_cast<float>(last - first);
    const float* pooled = a.pooled + s * a.width;
    for_vectors(a.width, [&](int64_t c, auto n) {
      const VF v = load(pooled + c, n) * share;
      for (int64_t row = first; row < last; ++row) store(static_cast<T*>(a.x) + row * a.width + c, v, n);
    });
  }
}

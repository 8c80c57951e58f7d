// Root-mean-square norm, of rows with the residual in front of it and of the heads of queries and keys; one row at a
// time while it is in the first-level cache.
//   T rows, D columns, d columns of a head; included by cpu/kernels.inl.

/// y = weight * (x * rstd), the only way y is made: rms_again meets the forward to the bit.
template <class T>
VIXEN_INLINE void rms_scale(const T* x, float rstd, const float* weight, int64_t width, T* y) {
  for_vectors(width, [&](int64_t c, auto n) { store(y + c, load(x + c, n) * rstd * load(weight + c, n), n); });
}

VIXEN_INLINE float rms_inverse(VF squares, float inverse_width, float eps) {
  return 1.0f / __builtin_sqrtf(sum_lanes(squares) * inverse_width + eps);
}

/// Gradient of one row x through its norm, plus `along` when there is one; adds to grad_weight unless it is null.
template <class T>
VIXEN_INLINE void rms_gradient(const T* grad_y, const T* along, const T* x, float rstd, const float* weight,
                               int64_t width, T* grad_x, float* grad_weight) {
  VF products{};
  for_vectors(width, [&](int64_t c, auto n) {
    const VF product = load(grad_y + c, n) * (load(x + c, n) * rstd);
    if (grad_weight) store(grad_weight + c, load(grad_weight + c, n) + product, n);
    products += product * load(weight + c, n);
  });
  const float mean_product = sum_lanes(products) * (1.0f / static_cast<float>(width));
  for_vectors(width, [&](int64_t c, auto n) {
    const VF normal = load(x + c, n) * rstd;
    VF g = (load(grad_y + c, n) * load(weight + c, n) - normal * mean_product) * rstd;
    if (along) g += load(along + c, n);
    store(grad_x + c, g, n);
  });
}

template <class T>
void rms_forward_rows(const RmsForwardArgs& a, int64_t begin, int64_t end) {
  const int64_t width = a.width;
  const float inverse_width = 1.0f / static_cast<float>(width);
  for (int64_t row = begin; row < end; ++row) {
    const T* x = static_cast<const T*>(a.x) + row * width;
    VF squares{};
    if (a.residual) {
      const T* residual = static_cast<const T*>(a.residual) + row * width;
      T* sum = static_cast<T*>(a.sum) + row * width;
      for_vectors(width, [&](int64_t c, auto n) {
        const VF v = load(x + c, n) + load(residual + c, n);
        store(sum + c, v, n);
        const VF stored = as_stored(v, x);
        squares += stored * stored;
      });
      x = sum;
    } else {
      for_vectors(width, [&](int64_t c, auto n) {
        const VF v = load(x + c, n);
        squares += v * v;
      });
    }
    const float rstd = rms_inverse(squares, inverse_width, a.eps);
    a.rstd[row] = rstd;
    rms_scale(x, rstd, a.weight, width, static_cast<T*>(a.y) + row * width);
  }
}

template <class T>
void rms_again_rows(const RmsForwardArgs& a, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row)
    rms_scale(static_cast<const T*>(a.x) + row * a.width, a.rstd[row], a.weight, a.width,
              static_cast<T*>(a.y) + row * a.width);
}

template <class T>
void rms_backward_chunks(const RmsBackwardArgs& a, int64_t begin, int64_t end) {
  const int64_t width = a.width;
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    float* grad_weight = a.partials ? a.partials + chunk * width : nullptr;
    if (grad_weight)
      for (int64_t c = 0; c < width; ++c) grad_weight[c] = 0;
    const int64_t last = smaller(a.rows, (chunk + 1) * a.rows_per_chunk);
    for (int64_t row = chunk * a.rows_per_chunk; row < last; ++row) {
      const T* along = a.grad_along ? static_cast<const T*>(a.grad_along) + row * width : nullptr;
      rms_gradient(static_cast<const T*>(a.grad_y) + row * width, along, static_cast<const T*>(a.sum) + row * width,
                   a.rstd[row], a.weight, width, static_cast<T*>(a.grad_sum) + row * width, grad_weight);
    }
  }
}

/// The heads behind those that are normalised, v, as they are.
template <class T>
VIXEN_INLINE void copy_values(const HeadNormArgs& a, const T* from, T* to) {
  const int64_t first = (a.heads + a.kv_heads) * a.head_dim;
  for_vectors(a.kv_heads * a.head_dim, [&](int64_t c, auto n) { store(to + first + c, load(from + first + c, n), n); });
}

template <class T>
void head_norm_rows(const HeadNormArgs& a, int64_t begin, int64_t end) {
  const int64_t d = a.head_dim, normed = a.heads + a.kv_heads, width = (normed + a.kv_heads) * d;
  const float inverse_width = 1.0f / static_cast<float>(d);
  for (int64_t row = begin; row < end; ++row) {
    const T* const x = static_cast<const T*>(a.x) + row * width;
    T* const y = static_cast<T*>(a.out) + row * width;
    for (int64_t head = 0; head < normed; ++head) {
      VF squares{};
      for_vectors(d, [&](int64_t c, auto n) {
        const VF v = load(x + head * d + c, n);
        squares += v * v;
      });
      const float rstd = rms_inverse(squares, inverse_width, a.eps);
      a.rstd[row * normed + head] = rstd;
      rms_scale(x + head * d, rstd, head < a.heads ? a.q_weight : a.k_weight, d, y + head * d);
    }
    copy_values(a, x, y);
  }
}

template <class T>
void head_norm_backward_chunks(const HeadNormArgs& a, int64_t begin, int64_t end) {
  const int64_t d = a.head_dim, normed = a.heads + a.kv_heads, width = (normed + a.kv_heads) * d;
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    float* grad_weights = a.partials ? a.partials + chunk * 2 * d : nullptr;
    if (grad_weights)
      for (int64_t c = 0; c < 2 * d; ++c) grad_weights[c] = 0;
    const int64_t last = smaller(a.rows, (chunk + 1) * a.rows_per_chunk);
    for (int64_t row = chunk * a.rows_per_chunk; row < last; ++row) {
      const T* const x = static_cast<const T*>(a.x) + row * width;
      const T* const grad = static_cast<const T*>(a.grad) + row * width;
      T* const grad_x = static_cast<T*>(a.out) + row * width;
      for (int64_t head = 0; head < normed; ++head) {
        const bool query = head < a.heads;
        float* grad_weight = grad_weights ? grad_weights + (query ? 0 : d) : nullptr;
        const T* const none = nullptr;
        rms_gradient(grad + head * d, none, x + head * d, a.rstd[row * normed + head], query ? a.q_weight : a.k_weight,
                     d, grad_x + head * d, grad_weight);
      }
      copy_values(a, grad, grad_x);
    }
  }
}

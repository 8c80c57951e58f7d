// Root-mean-square norm with the residual in front of it, one row at a time while it is in the first-level cache.
//   T rows, D columns; included by cpu_kernels.inl.

/// y = weight * (x * rstd), the only way y is made: rms_again meets the forward to the bit.
template <class T>
VIXEN_INLINE void rms_scale(const T* x, float rstd, const float* weight, int64_t width, T* y) {
  for_vectors(width, [&](int64_t c, auto n) { store(y + c, load(x + c, n) * rstd * load(weight + c, n), n); });
}

template <class T>
void rms_forward_rows(const RmsForward& a, int64_t begin, int64_t end) {
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
    const float rstd = 1.0f / __builtin_sqrtf(sum_lanes(squares) * inverse_width + a.eps);
    a.rstd[row] = rstd;
    rms_scale(x, rstd, a.weight, width, static_cast<T*>(a.y) + row * width);
  }
}

template <class T>
void rms_again_rows(const RmsForward& a, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row)
    rms_scale(static_cast<const T*>(a.x) + row * a.width, a.rstd[row], a.weight, a.width,
              static_cast<T*>(a.y) + row * a.width);
}

template <class T>
void rms_backward_rows(const RmsBackward& a, int64_t begin, int64_t end) {
  const int64_t width = a.width;
  const float inverse_width = 1.0f / static_cast<float>(width);
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    float* grad_weight = a.partials ? a.partials + chunk * width : nullptr;
    if (grad_weight)
      for (int64_t c = 0; c < width; ++c) grad_weight[c] = 0;
    const int64_t last = smaller(a.rows, (chunk + 1) * a.rows_per_chunk);
    for (int64_t row = chunk * a.rows_per_chunk; row < last; ++row) {
      const T* grad_y = static_cast<const T*>(a.grad_y) + row * width;
      const T* grad_along = a.grad_along ? static_cast<const T*>(a.grad_along) + row * width : nullptr;
      const T* sum = static_cast<const T*>(a.sum) + row * width;
      T* grad_sum = static_cast<T*>(a.grad_sum) + row * width;
      const float rstd = a.rstd[row];
      VF products{};
      for_vectors(width, [&](int64_t c, auto n) {
        const VF g = load(grad_y + c, n), normal = load(sum + c, n) * rstd, product = g * normal;
        if (grad_weight) store(grad_weight + c, load(grad_weight + c, n) + product, n);
        products += product * load(a.weight + c, n);
      });
      const float mean_product = sum_lanes(products) * inverse_width;
      for_vectors(width, [&](int64_t c, auto n) {
        const VF normal = load(sum + c, n) * rstd;
        VF g = (load(grad_y + c, n) * load(a.weight + c, n) - normal * mean_product) * rstd;
        if (grad_along) g += load(grad_along + c, n);
        store(grad_sum + c, g, n);
      });
    }
  }
}

// Layer norm with dropout and residual, one row at a time while it is in the first-level cache.
//   T rows, D columns; included by cpu/kernels.inl.

template <class T>
void norm_forward_rows(const NormForwardArgs& a, int64_t begin, int64_t end) {
  const int64_t width = a.width;
  const float inverse_width = 1.0f / static_cast<float>(width);
  const DropoutDraw draw(a.dropout);
  for (int64_t row = begin; row < end; ++row) {
    const T* x = static_cast<const T*>(a.x) + row * width;
    const T* residual = a.residual ? static_cast<const T*>(a.residual) + row * width : nullptr;
    T* y = static_cast<T*>(a.y) + row * width;
    RowDropout dropout(draw, a.keys, row);
    VF total{};
    if (a.sum) {
      T* sum = static_cast<T*>(a.sum) + row * width;
      for_vectors(width, [&](int64_t c, auto n) {
        VF v = load(x + c, n);
        if (dropout.active()) v *= dropout.at(c);
        if (residual) v += load(residual + c, n);
        store(sum + c, v, n);
        total += as_stored(v, x);
      });
      x = sum;
    } else {
      for_vectors(width, [&](int64_t c, auto n) { total += load(x + c, n); });
    }
    const float mean = sum_lanes(total) * inverse_width;
    VF squares{};
    for_vectors(width, [&](int64_t c, auto n) {
      const VF centred = live(load(x + c, n) - mean, n);
      squares += centred * centred;
    });
    const float inverse = 1.0f / __builtin_sqrtf(sum_lanes(squares) * inverse_width + a.eps);
    a.stats[2 * row] = mean;
    a.stats[2 * row + 1] = inverse;
    const bool drop = a.dropout_after && dropout.active();
    for_vectors(width, [&](int64_t c, auto n) {
      VF v = (load(x + c, n) - mean) * inverse * load(a.weight + c, n) + load(a.bias + c, n);
      if (drop) v = as_stored(v, x) * dropout.at(c);
      store(y + c, v, n);
    });
  }
}

template <class T>
void norm_backward_chunks(const NormBackwardArgs& a, int64_t begin, int64_t end) {
  const int64_t width = a.width;
  const float inverse_width = 1.0f / static_cast<float>(width);
  const DropoutDraw draw(a.dropout);
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    float* grad_weight = a.partials + chunk * 2 * width;
    float* grad_bias = grad_weight + width;
    for (int64_t c = 0; c < 2 * width; ++c) grad_weight[c] = 0;
    const int64_t last = smaller(a.rows, (chunk + 1) * a.rows_per_chunk);
    for (int64_t row = chunk * a.rows_per_chunk; row < last; ++row) {
      const T* grad_y = static_cast<const T*>(a.grad_y) + row * width;
      const T* sum = static_cast<const T*>(a.sum) + row * width;
      T* grad_sum = static_cast<T*>(a.grad_sum) + row * width;
      const float mean = a.stats[2 * row], inverse = a.stats[2 * row + 1];
      RowDropout dropout(draw, a.keys, row);
      const bool drop_after = a.dropout_after && dropout.active();
      const auto grad_of_norm = [&](int64_t c, auto n) {
        VF g = load(grad_y + c, n);
        if (drop_after) g *= dropout.at(c);
        return g;
      };
      VF grads{}, products{};
      for_vectors(width, [&](int64_t c, auto n) {
        const VF g = grad_of_norm(c, n);
        const VF normal = (load(sum + c, n) - mean) * inverse;
        store(grad_weight + c, load(grad_weight + c, n) + g * normal, n);
        store(grad_bias + c, load(grad_bias + c, n) + g, n);
        const VF weighted = g * load(a.weight + c, n);
        grads += weighted;
        products += weighted * normal;
      });
      const float mean_grad = sum_lanes(grads) * inverse_width, mean_product = sum_lanes(products) * inverse_width;
      T* grad_x = a.grad_x ? static_cast<T*>(a.grad_x) + row * width : nullptr;
      for_vectors(width, [&](int64_t c, auto n) {
        const VF normal = (load(sum + c, n) - mean) * inverse;
        const VF g = (grad_of_norm(c, n) * load(a.weight + c, n) - mean_grad - normal * mean_product) * inverse;
        store(grad_sum + c, g, n);
        if (grad_x) store(grad_x + c, g * dropout.at(c), n);
      });
    }
  }
}

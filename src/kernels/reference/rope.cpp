// Rotary position embeddings in plain ATen.
//   qkv [T, (H + 2 Hkv) d]; table float32 [P, d]: cos | sin of d/2 angles.
#include "kernels/reference.hpp"

namespace vixen::reference {

void apply_rope(at::Tensor& qkv, const at::Tensor& position_ids, const at::Tensor& table, const AttentionShape& shape,
                bool inverse) {
  const int64_t rotated = shape.heads + shape.key_value_heads(), d = shape.head_dim(qkv.size(1));
  at::Tensor heads = qkv.view({qkv.size(0), -1, d}).narrow(1, 0, rotated);
  const at::Tensor angles = table.index_select(0, position_ids).unsqueeze(1);  // [T, 1, d]
  const at::Tensor cosine = angles.narrow(2, 0, d / 2), sine = angles.narrow(2, d / 2, d / 2) * (inverse ? -1.0 : 1.0);
  const at::Tensor values = heads.to(at::kFloat);
  const at::Tensor left = values.narrow(2, 0, d / 2), right = values.narrow(2, d / 2, d / 2);
  heads.copy_(at::cat({left * cosine - right * sine, right * cosine + left * sine}, 2));
}

}  // namespace vixen::reference

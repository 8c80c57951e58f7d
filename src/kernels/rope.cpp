// Checks and dispatch of rotary position embeddings.
#include "kernels/rope.hpp"

#include "base/check.hpp"
#include "kernels/dispatch.hpp"
#include "kernels/reference.hpp"

namespace vixen {

void apply_rope(at::Tensor& qkv, const at::Tensor& position_ids, const at::Tensor& table, const AttentionShape& shape,
                bool inverse) {
  const int64_t kv_heads = shape.key_value_heads(), all = shape.heads + 2 * kv_heads;
  VIXEN_CHECK(qkv.dim() == 2 && shape.heads > 0 && qkv.size(1) % all == 0 && shape.head_dim(qkv.size(1)) % 2 == 0,
              "qkv [{}, {}] does not split into {} heads of an even width", qkv.size(0), qkv.size(-1), all);
  VIXEN_CHECK(qkv.is_contiguous(), "qkv is rotated in place and must be contiguous");
  const int64_t d = shape.head_dim(qkv.size(1));
  VIXEN_CHECK(position_ids.dim() == 1 && position_ids.size(0) == qkv.size(0), "{} rows with {} positions", qkv.size(0),
              position_ids.numel());
  VIXEN_CHECK(table.dim() == 2 && table.size(1) == d && table.scalar_type() == at::kFloat,
              "rotation table [{}, {}] for heads of {}", table.size(0), table.size(-1), d);
  const auto kernel = fused_kernel(kernel::rope, qkv);
  if (!kernel) return reference::apply_rope(qkv, position_ids, table, shape, inverse);
  const at::Tensor ids = position_ids.contiguous(), angles = table.contiguous();
  check_ids(ids, table.size(0), "position");
  const RopeArgs args{.storage = storage_of(qkv.scalar_type()),
                      .row_width = qkv.size(1),
                      .heads = shape.heads + kv_heads,
                      .head_dim = d,
                      .qkv = qkv.mutable_data_ptr(),
                      .position_ids = ids.const_data_ptr<int64_t>(),
                      .table = angles.const_data_ptr<float>(),
                      .inverse = inverse};
  kernel.run(args, qkv.size(0), 16);
}

}  // namespace vixen

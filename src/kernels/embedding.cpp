// Checks and dispatch of the input embeddings.
#include "kernels/embedding.hpp"

#include "kernels/activation.hpp"
#include "kernels/fused.hpp"
#include "kernels/reference.hpp"

namespace vixen {
namespace {

bool has_images(const at::Tensor& image_positions) {
  return image_positions.defined() && image_positions.numel() > 0;
}

/// For each position the row of its picture, -1 for text. Empty without pictures.
std::vector<int64_t> image_rows(const at::Tensor& image_positions, int64_t positions) {
  if (!has_images(image_positions)) return {};
  std::vector<int64_t> rows(positions, -1);
  const at::Tensor places = image_positions.contiguous();
  for (int64_t m = 0; m < places.numel(); ++m) {
    const int64_t place = places.const_data_ptr<int64_t>()[m];
    VIXEN_CHECK(place >= 0 && place < positions, "image {} at position {} of {}", m, place, positions);
    rows[place] = m;
  }
  return rows;
}

/// target[ids[t]] += grad[t] over all t with skip[t] < 0: the rows of one id are added in the order of t, by one
/// thread.
void add_rows(const at::Tensor& grad, const at::Tensor& ids, const std::vector<int64_t>& skip, at::Tensor& target) {
  VIXEN_CHECK(target.scalar_type() == at::kFloat && target.is_contiguous(),
              "gradients of embeddings are contiguous float32");
  const int64_t* id = ids.const_data_ptr<int64_t>();
  std::vector<int64_t> order;
  order.reserve(ids.numel());
  for (int64_t t = 0; t < ids.numel(); ++t) {
    if (!skip.empty() && skip[t] >= 0) continue;
    VIXEN_CHECK(id[t] >= 0 && id[t] < target.size(0), "row {} of {} at position {}", id[t], target.size(0), t);
    order.push_back(t);
  }
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return id[a] < id[b]; });
  std::vector<int64_t> segments, rows;
  for (size_t i = 0; i < order.size(); ++i) {
    if (i > 0 && id[order[i]] == rows.back()) continue;
    segments.push_back(static_cast<int64_t>(i));
    rows.push_back(id[order[i]]);
  }
  segments.push_back(static_cast<int64_t>(order.size()));
  const SegmentSums args{
      storage_of(grad.scalar_type()),  grad.size(1), grad.const_data_ptr(), order.data(), segments.data(), rows.data(),
      target.mutable_data_ptr<float>()};
  run_ranges(cpu_kernels().segment_sums, args, static_cast<int64_t>(rows.size()), 1);
}

/// Text positions' ids must lie in the table.
void check_tokens(const at::Tensor& tokens, const std::vector<int64_t>& rows, int64_t vocabulary) {
  const int64_t* id = tokens.const_data_ptr<int64_t>();
  for (int64_t t = 0; t < tokens.numel(); ++t)
    VIXEN_CHECK((!rows.empty() && rows[t] >= 0) || (id[t] >= 0 && id[t] < vocabulary), "token {} of {} at position {}",
                id[t], vocabulary, t);
}

bool is_table(const at::Tensor& word) {
  const auto dtype = word.scalar_type();
  return word.is_cpu() && (dtype == at::kFloat || dtype == at::kBFloat16 || dtype == at::kHalf);
}

TableStorage table_storage(at::ScalarType dtype) {
  return dtype == at::kFloat      ? TableStorage::kFloat32
         : dtype == at::kBFloat16 ? TableStorage::kBfloat16
                                  : TableStorage::kFloat16;
}

/// float32 rows of the pictures' gradients, [M, D].
at::Tensor image_gradients(const at::Tensor& rows, const at::Tensor& image_positions) {
  if (!has_images(image_positions)) return at::empty({0, rows.size(1)}, rows.options().dtype(at::kFloat));
  return rows.index_select(0, image_positions).to(at::kFloat);
}

}  // namespace

at::Tensor embed_positions(const at::Tensor& tokens, const at::Tensor& position_ids, const at::Tensor& word,
                           const at::Tensor& position, const at::Tensor& type, const at::Tensor& images,
                           const at::Tensor& image_positions, at::ScalarType dtype) {
  VIXEN_CHECK(tokens.sizes() == position_ids.sizes(), "{} tokens, {} positions", tokens.numel(), position_ids.numel());
  if (use_fused(word, KernelChoice::kAuto, "") && word.scalar_type() == at::kFloat) {
    const int64_t positions = tokens.size(0), width = word.size(1);
    const at::Tensor ids = tokens.contiguous(), places = position_ids.contiguous(), words = word.contiguous();
    const at::Tensor places_table = position.contiguous(),
                     pictures = has_images(image_positions) ? images.contiguous() : images;
    const std::vector<int64_t> rows = image_rows(image_positions, positions);
    const int64_t *id = ids.const_data_ptr<int64_t>(), *place = places.const_data_ptr<int64_t>();
    check_tokens(ids, rows, word.size(0));
    for (int64_t t = 0; t < positions; ++t)
      VIXEN_CHECK(place[t] >= 0 && place[t] < position.size(0), "position id {} of {} at position {}", place[t],
                  position.size(0), t);
    at::Tensor out = at::empty({positions, width}, word.options().dtype(dtype));
    const at::Tensor types = type.defined() ? type.contiguous() : type;
    const EmbedRows args{storage_of(dtype),
                         width,
                         id,
                         place,
                         rows.empty() ? nullptr : rows.data(),
                         words.const_data_ptr<float>(),
                         places_table.const_data_ptr<float>(),
                         types.defined() ? types.const_data_ptr<float>() : nullptr,
                         rows.empty() ? nullptr : pictures.const_data_ptr<float>(),
                         out.mutable_data_ptr()};
    run_ranges(cpu_kernels().embed, args, positions, 16);
    return out;
  }
  return reference::embed_positions(tokens, position_ids, word, position, type, images, image_positions, dtype);
}

at::Tensor embed_positions_backward(const at::Tensor& grad, const at::Tensor& tokens, const at::Tensor& position_ids,
                                    const at::Tensor& image_positions, at::Tensor grad_word, at::Tensor grad_position,
                                    at::Tensor grad_type) {
  VIXEN_CHECK(grad.dim() == 2 && grad.size(0) == tokens.size(0), "{} gradient rows for {} tokens", grad.size(0),
              tokens.numel());
  if (use_fused(grad, KernelChoice::kAuto, "")) {
    const at::Tensor rows = grad.contiguous();
    add_rows(rows, tokens.contiguous(), image_rows(image_positions, tokens.size(0)), grad_word);
    add_rows(rows, position_ids.contiguous(), {}, grad_position);
    if (grad_type.defined()) accumulate_bias_gradient(rows, grad_type);
    return image_gradients(rows, image_positions);
  }
  return reference::embed_positions_backward(grad, tokens, position_ids, image_positions, grad_word, grad_position,
                                             grad_type);
}

at::Tensor embed_tokens(const at::Tensor& tokens, const at::Tensor& word, const at::Tensor& images,
                        const at::Tensor& image_positions, at::ScalarType dtype) {
  VIXEN_CHECK(tokens.dim() == 1 && word.dim() == 2, "tokens have {} dimensions, the table {}", tokens.dim(),
              word.dim());
  if (!is_table(word) || !tokens.is_cpu() || (dtype != at::kFloat && dtype != at::kBFloat16))
    return reference::embed_tokens(tokens, word, images, image_positions, dtype);
  const int64_t positions = tokens.size(0), width = word.size(1);
  const at::Tensor ids = tokens.contiguous(), words = word.contiguous();
  const at::Tensor pictures = has_images(image_positions) ? images.to(at::kFloat).contiguous() : images;
  const std::vector<int64_t> rows = image_rows(image_positions, positions);
  VIXEN_CHECK(rows.empty() || (pictures.size(0) == image_positions.numel() && pictures.size(1) == width),
              "images [{}, {}] for {} positions of width {}", pictures.size(0), pictures.size(-1),
              image_positions.numel(), width);
  check_tokens(ids, rows, word.size(0));
  at::Tensor out = at::empty({positions, width}, word.options().dtype(dtype));
  const EmbedTokens args{storage_of(dtype),
                         table_storage(word.scalar_type()),
                         width,
                         ids.const_data_ptr<int64_t>(),
                         rows.empty() ? nullptr : rows.data(),
                         words.const_data_ptr(),
                         rows.empty() ? nullptr : pictures.const_data_ptr<float>(),
                         out.mutable_data_ptr()};
  run_ranges(cpu_kernels().embed_tokens, args, positions, 16);
  return out;
}

at::Tensor embed_tokens_backward(const at::Tensor& grad, const at::Tensor& tokens, const at::Tensor& image_positions,
                                 at::Tensor grad_word) {
  VIXEN_CHECK(grad.dim() == 2 && grad.size(0) == tokens.size(0), "{} gradient rows for {} tokens", grad.size(0),
              tokens.numel());
  if (!use_fused(grad, KernelChoice::kAuto, ""))
    return reference::embed_tokens_backward(grad, tokens, image_positions, grad_word);
  const at::Tensor rows = grad.contiguous();
  if (grad_word.defined()) add_rows(rows, tokens.contiguous(), image_rows(image_positions, tokens.size(0)), grad_word);
  return image_gradients(rows, image_positions);
}

}  // namespace vixen

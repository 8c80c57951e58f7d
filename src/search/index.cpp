#include "search/index.hpp"

#include <ATen/ATen.h>

#include <algorithm>

#include "base/check.hpp"
#include "base/lap.hpp"

namespace vixen {

#define VIXEN_INDEX(enumerator, name, exact, help)                                                                \
  std::unique_ptr<Index> make_##name##_index(const IndexConfig& config, const ScaledRows& rows, int64_t first_id, \
                                             bool show_progress);                                                 \
  int64_t name##_index_bytes(const IndexConfig& config, int64_t n, int64_t width, bool cpu);
#include "config/search_methods.inl"
#undef VIXEN_INDEX

const std::vector<IndexKind>& index_kinds() {
#define VIXEN_INDEX(enumerator, name, exact, help) \
  {SearchMethod::enumerator, #name, exact, help, make_##name##_index, name##_index_bytes},
  static const std::vector<IndexKind> kinds = {
#include "config/search_methods.inl"
  };
#undef VIXEN_INDEX
  return kinds;
}

const IndexKind& index_kind(SearchMethod method) {
  const auto& kinds = index_kinds();
  const auto found = std::find_if(kinds.begin(), kinds.end(), [&](const auto& kind) { return kind.method == method; });
  VIXEN_CHECK(found != kinds.end(), "search method {}", static_cast<int>(method));
  return *found;
}

TopK Index::search(const at::Tensor& queries, int64_t k, bool show_progress) const {
  VIXEN_CHECK(k > 0 && queries.dim() == 2, "k = {}, queries of {} dimensions", k, queries.dim());
  if (queries.size(1) != width_) {
    fail_user("queries have {} columns, labels {}; expected the same width", queries.size(1), width_);
  }
  return search_rows(queries.to(at::kFloat).contiguous(), k, show_progress);
}

std::unique_ptr<Index> make_index(const IndexConfig& config, const ScaledRows& rows, int64_t first_id,
                                  bool show_progress) {
  const Lap lap;
  auto index = index_kind(config.method).build(config, rows, first_id, show_progress);
  index->build_seconds_ = lap.total();
  return index;
}

}  // namespace vixen

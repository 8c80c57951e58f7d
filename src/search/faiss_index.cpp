#include "search/faiss_index.hpp"

#include <ATen/ATen.h>
#include <faiss/IndexFlat.h>
#include <faiss/impl/FaissException.h>
#include <faiss/index_io.h>

#include <limits>

#include "base/check.hpp"
#include "base/file.hpp"
#include "search/error_bound.hpp"

namespace vixen {

struct FaissIndex::Impl {
  std::unique_ptr<faiss::IndexFlatIP> index;
  int64_t first_id = 0;
};

FaissIndex::FaissIndex(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
FaissIndex::~FaissIndex() = default;
FaissIndex::FaissIndex(FaissIndex&&) noexcept = default;
FaissIndex& FaissIndex::operator=(FaissIndex&&) noexcept = default;

FaissIndex::FaissIndex(const at::Tensor& rows, int64_t first_id) : impl_(std::make_unique<Impl>()) {
  VIXEN_CHECK(rows.dim() == 2, "rows of {} dimensions", rows.dim());
  impl_->first_id = first_id;
  impl_->index = std::make_unique<faiss::IndexFlatIP>(static_cast<faiss::Index::idx_t>(rows.size(1)));
  add(rows);
}

void FaissIndex::add(const at::Tensor& rows) {
  VIXEN_CHECK(rows.dim() == 2 && rows.size(1) == width(), "rows [{}, {}], the index is {} wide", rows.size(0),
              rows.size(-1), width());
  const at::Tensor dense = rows.cpu().to(at::kFloat).contiguous();
  row_bounds(dense, dense, "label", impl_->first_id + impl_->index->ntotal);  // refuses what is not finite
  if (rows.size(0) > 0) impl_->index->add(rows.size(0), dense.const_data_ptr<float>());
}

FaissIndex FaissIndex::load(const std::filesystem::path& path) {
  if (!std::filesystem::is_regular_file(path)) fail_user("{}: no such file; expected a FAISS index", path.string());
  std::unique_ptr<faiss::Index> index;
  try {
    index.reset(faiss::read_index(path.c_str()));
  } catch (const std::exception&) {  // FAISS names its own source lines, which helps nobody
    fail_user("{}: damaged, or not a FAISS index", path.string());
  }
  auto* flat = dynamic_cast<faiss::IndexFlatIP*>(index.get());
  if (flat == nullptr) fail_user("{}: a FAISS index of another kind; expected IndexFlatIP", path.string());
  auto impl = std::make_unique<Impl>();
  static_cast<void>(index.release());
  impl->index.reset(flat);
  return FaissIndex(std::move(impl));
}

void FaissIndex::save(const std::filesystem::path& path) const {
  write_atomically(path, [&](const std::filesystem::path& temporary) {
    try {
      faiss::write_index(impl_->index.get(), temporary.c_str());
    } catch (const faiss::FaissException&) {
      fail_user("{}: cannot write the FAISS index (no space, or no permission)", path.string());
    }
  });
}

int64_t FaissIndex::rows() const {
  return impl_->index->ntotal;
}
int64_t FaissIndex::width() const {
  return impl_->index->d;
}

TopK FaissIndex::search(const at::Tensor& queries, int64_t k) const {
  VIXEN_CHECK(k > 0 && queries.dim() == 2, "k = {}, queries of {} dimensions", k, queries.dim());
  if (queries.size(1) != width()) {
    fail_user("queries have {} columns, labels {}; expected the same width", queries.size(1), width());
  }
  const at::Tensor dense = queries.cpu().to(at::kFloat).contiguous();
  row_bounds(dense, dense, "query", 0);
  const int64_t m = dense.size(0);
  TopK result{at::full({m, k}, -1, at::kLong), at::full({m, k}, -std::numeric_limits<float>::infinity(), at::kFloat)};
  if (m > 0 && rows() > 0) {
    static_assert(sizeof(faiss::Index::idx_t) == sizeof(int64_t));
    impl_->index->search(m, dense.const_data_ptr<float>(), k, result.scores.mutable_data_ptr<float>(),
                         result.ids.mutable_data_ptr<int64_t>());
    // FAISS pads with its own lowest score.
    const at::Tensor missing = result.ids.lt(0);
    result.scores.masked_fill_(missing, -std::numeric_limits<float>::infinity());
    result.ids.add_(missing.logical_not().to(at::kLong) * impl_->first_id);
  }
  return {result.ids.to(queries.device()), result.scores.to(queries.device())};
}

}  // namespace vixen

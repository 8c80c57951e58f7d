#include "search/faiss_flat_index.hpp"

#include <ATen/ATen.h>
#include <faiss/impl/FaissException.h>
#include <faiss/index_io.h>

#include <algorithm>

#include "base/check.hpp"
#include "base/file.hpp"

namespace vixen {
namespace {

constexpr int64_t kAddRows = 65536;  // widened at a time

}  // namespace

FaissFlatIndex::FaissFlatIndex(const ScaledRows& rows, int64_t first_id)
    : FaissIndex(0, rows.width(), first_id), index_(std::make_unique<faiss::IndexFlatIP>(rows.width())) {
  index_->codes.reserve(static_cast<size_t>(rows.size()) * index_->code_size);
  add(rows);
}

FaissFlatIndex::FaissFlatIndex(std::unique_ptr<faiss::IndexFlatIP> index)
    : FaissIndex(index->ntotal, index->d, 0), index_(std::move(index)) {}

std::unique_ptr<Index> make_faiss_flat_index(const IndexConfig& /*config*/, const ScaledRows& rows, int64_t first_id,
                                             bool /*show_progress*/) {
  return std::make_unique<FaissFlatIndex>(rows, first_id);
}

int64_t faiss_flat_index_bytes(const IndexConfig& /*config*/, int64_t n, int64_t width, bool cpu) {
  return cpu ? n * width * int64_t{sizeof(float)} : 0;  // FAISS's copy
}

void FaissFlatIndex::add(const ScaledRows& rows) {
  VIXEN_CHECK(rows.width() == width(), "rows [{}, {}], the index is {} wide", rows.size(), rows.width(), width());
  const int64_t before = this->rows();
  for (int64_t begin = 0; begin < rows.size(); begin += kAddRows) {
    const int64_t n = std::min(kAddRows, rows.size() - begin);
    index_->add(n, faiss_rows(rows, begin, n, first_id() + before).const_data_ptr<float>());
  }
  grow(rows.size());
}

FaissFlatIndex FaissFlatIndex::load(const std::filesystem::path& path) {
  if (!std::filesystem::is_regular_file(path)) fail_user("{}: no such file; expected a FAISS index", path.string());
  std::unique_ptr<faiss::Index> index;
  try {
    index.reset(faiss::read_index(path.c_str()));
  } catch (const std::exception&) {  // FAISS names its own source lines, which helps nobody
    fail_user("{}: damaged, or not a FAISS index", path.string());
  }
  auto* flat = dynamic_cast<faiss::IndexFlatIP*>(index.get());
  if (flat == nullptr) fail_user("{}: a FAISS index of another kind; expected IndexFlatIP", path.string());
  static_cast<void>(index.release());
  return FaissFlatIndex(std::unique_ptr<faiss::IndexFlatIP>(flat));
}

void FaissFlatIndex::save(const std::filesystem::path& path) const {
  write_atomically(path, [&](const std::filesystem::path& temporary) {
    try {
      faiss::write_index(index_.get(), temporary.c_str());
    } catch (const faiss::FaissException&) {
      fail_user("{}: cannot write the FAISS index (no space, or no permission)", path.string());
    }
  });
}

int64_t FaissFlatIndex::bytes() const {
  return static_cast<int64_t>(index_->codes.size());
}

std::string FaissFlatIndex::description() const {
  return "every label compared by FAISS";
}

void FaissFlatIndex::find(int64_t m, const float* queries, int64_t count, int64_t* found, float* scores) const {
  index_->search(m, queries, count, scores, found);
}

void FaissFlatIndex::find_all(int64_t m, const float* queries, int64_t count, int64_t* found, float* scores) const {
  find(m, queries, count, found, scores);
}

}  // namespace vixen

// Matrices in HDF5: HDF5 keeps the books, the rows themselves pass by mapping (in) and pwrite (out).
#include "data/hdf5_matrix.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <limits>
#include <map>
#include <optional>

#include "base/check.hpp"
#include "base/file.hpp"
#include "base/same_file.hpp"
#include "data/hdf5_file.hpp"

namespace vixen {
namespace {

std::optional<at::ScalarType> scalar_type(ElementType type) {
  switch (type) {
    case ElementType::kFloat16:
      return at::kHalf;
    case ElementType::kFloat32:
      return at::kFloat;
    case ElementType::kFloat64:
      return at::kDouble;
    case ElementType::kInt32:
      return at::kInt;
    case ElementType::kInt64:
      return at::kLong;
    default:
      return std::nullopt;
  }
}

ElementType element_type(at::ScalarType type) {
  for (const auto element : {ElementType::kFloat16, ElementType::kFloat32, ElementType::kInt32, ElementType::kInt64})
    if (scalar_type(element) == type) return element;
  VIXEN_CHECK(false, "cannot write dtype {}", c10::toString(type));
  return ElementType::kOther;
}

/// The first row of `data` [n, d] with an exponent of all ones (NaN or infinity), or n.
template <typename Bits>
int64_t first_non_finite(const Bits* data, int64_t n, int64_t d, Bits exponent) {
  std::atomic<int64_t> first{n};
  at::parallel_for(0, n, std::max<int64_t>(1, (1 << 16) / std::max<int64_t>(1, d)), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end && row < first.load(std::memory_order_relaxed); ++row) {
      unsigned any = 0;
#pragma omp simd reduction(| : any)
      for (int64_t i = row * d; i < (row + 1) * d; ++i) any |= static_cast<unsigned>((data[i] & exponent) == exponent);
      if (!any) continue;
      int64_t seen = first.load();
      while (row < seen && !first.compare_exchange_weak(seen, row)) {
      }
      return;
    }
  });
  return first.load();
}

int64_t first_non_finite(const at::Tensor& rows) {
  const int64_t n = rows.size(0), d = rows.size(1);
  switch (rows.scalar_type()) {
    case at::kHalf:
      return first_non_finite<uint16_t>(static_cast<const uint16_t*>(rows.const_data_ptr()), n, d, 0x7C00);
    case at::kFloat:
      return first_non_finite<uint32_t>(static_cast<const uint32_t*>(rows.const_data_ptr()), n, d, 0x7F800000u);
    case at::kDouble:
      return first_non_finite<uint64_t>(static_cast<const uint64_t*>(rows.const_data_ptr()), n, d, 0x7FF0000000000000u);
    default:
      return n;
  }
}

}  // namespace

MatrixPath parse_matrix_path(const std::string& text, const std::string& default_dataset) {
  const size_t colon = text.rfind(":/");
  // "scheme:/..." does not occur: a colon counts when a file name stands before it.
  if (colon == std::string::npos || colon == 0) return {text, default_dataset};
  if (colon + 2 == text.size()) fail_user("'{}': expected FILE.h5 or FILE.h5:/dataset, found no dataset name", text);
  return {text.substr(0, colon), text.substr(colon + 1)};
}

struct MatrixReader::Impl {
  explicit Impl(const MatrixPath& path)
      : dataset(path.dataset), file(path.file, Hdf5File::Mode::kRead), location(file.locate(dataset)) {}

  std::string dataset;
  Hdf5File file;
  DatasetLocation location;
  at::ScalarType dtype = at::kFloat;
  std::optional<MappedFile> map;  // when contiguous
};

MatrixReader::MatrixReader(const MatrixPath& path) : impl_(std::make_unique<Impl>(path)) {
  const DatasetLocation& location = impl_->location;
  const std::string where = impl_->file.where(impl_->dataset);
  if (location.shape.size() != 2)
    fail_user("{}: has {} dimensions, expected 2 (rows, columns)", where, location.shape.size());
  const auto dtype = scalar_type(location.type);
  if (!dtype)
    fail_user("{}: holds {}, expected float16, float32, float64, int32 or int64", where, element_name(location.type));
  impl_->dtype = *dtype;
  if (location.allocated) impl_->map.emplace(path.file);
}

MatrixReader::~MatrixReader() = default;
int64_t MatrixReader::rows() const {
  return impl_->location.shape[0];
}
int64_t MatrixReader::columns() const {
  return impl_->location.shape[1];
}
at::ScalarType MatrixReader::dtype() const {
  return impl_->dtype;
}

at::Tensor MatrixReader::read(RowRange range, bool check_finite) const {
  VIXEN_CHECK(0 <= range.begin && range.begin <= range.end && range.end <= rows(), "rows [{}, {}) of {}", range.begin,
              range.end, rows());
  at::Tensor out = at::empty({range.size(), columns()}, impl_->dtype);
  if (out.numel() > 0) {
    if (impl_->map) {
      const int64_t row_bytes = columns() * element_bytes(impl_->location.type);
      const std::byte* source = impl_->map->bytes().data() + impl_->location.offset_bytes + range.begin * row_bytes;
      auto* target = static_cast<std::byte*>(out.mutable_data_ptr());
      at::parallel_for(0, range.size() * row_bytes, 1 << 20, [&](int64_t begin, int64_t end) {
        std::memcpy(target + begin, source + begin, static_cast<size_t>(end - begin));
      });
    } else {
      impl_->file.read_rows(impl_->dataset, range.begin, range.size(), out.mutable_data_ptr());
    }
  }
  if (check_finite) {
    const int64_t row = first_non_finite(out);
    if (row < out.size(0))
      fail_user("{}: row {} holds NaN or infinity, expected finite values", impl_->file.where(impl_->dataset),
                range.begin + row);
  }
  return out;
}

struct MatrixWriter::Impl {
  struct Target {
    int64_t rows, columns;
    at::ScalarType dtype;
    int64_t offset_bytes;
  };

  std::filesystem::path path, target, partial;  // as named; where a link leads to; written aside
  std::map<std::string, Target> targets;
  int descriptor = -1;
  bool open = false;

  ~Impl() {
    if (descriptor >= 0) ::close(descriptor);
    std::error_code ignored;
    if (open) std::filesystem::remove(partial, ignored);
  }
};

MatrixWriter::MatrixWriter(const std::filesystem::path& path, const std::map<std::string, std::string>& attributes)
    : impl_(std::make_unique<Impl>()) {
  impl_->path = path;
  impl_->target = write_target(path);
  impl_->partial = partial_name(impl_->target);
  impl_->open = true;  // from here on the partial file goes when this constructor fails
  ::unlink(impl_->partial.c_str());
  Hdf5File file(impl_->partial, Hdf5File::Mode::kCreate);
  for (const auto& [name, value] : attributes) file.set_attribute(name, value);
  file.close();
  impl_->descriptor = ::open(impl_->partial.c_str(), O_WRONLY | O_CLOEXEC);
  if (impl_->descriptor < 0)
    fail_user("{}: cannot open for writing: {}", impl_->partial.string(), std::strerror(errno));
}

MatrixWriter::~MatrixWriter() = default;

void MatrixWriter::add(const std::string& dataset, int64_t rows, int64_t columns, at::ScalarType dtype) {
  VIXEN_CHECK(impl_->open && rows >= 0 && columns >= 0 && !impl_->targets.contains(dataset), "{} [{}, {}]", dataset,
              rows, columns);
  const int64_t shape[] = {rows, columns};
  Hdf5File file(impl_->partial, Hdf5File::Mode::kModify);
  file.create(dataset, shape, element_type(dtype));
  file.close();
  // The space lies in the file now (as a hole): rows go there directly, without HDF5, so that a full disk is an errno.
  const Hdf5File finished(impl_->partial, Hdf5File::Mode::kRead);
  impl_->targets[dataset] = {rows, columns, dtype, finished.locate(dataset).offset_bytes};
}

void MatrixWriter::write(const std::string& dataset, int64_t first, const at::Tensor& data) {
  const auto found = impl_->targets.find(dataset);
  VIXEN_CHECK(impl_->open && found != impl_->targets.end(), "no dataset {}", dataset);
  const Impl::Target& target = found->second;
  VIXEN_CHECK(data.dim() == 2 && data.size(1) == target.columns && first >= 0 && first + data.size(0) <= target.rows,
              "{}: rows {} + {} x {} into [{}, {}]", dataset, first, data.size(0), data.size(1), target.rows,
              target.columns);
  const at::Tensor rows = data.to(at::kCPU, target.dtype).contiguous();
  const auto* bytes = static_cast<const char*>(rows.const_data_ptr());
  auto left = static_cast<size_t>(rows.nbytes());
  auto offset =
      static_cast<off_t>(target.offset_bytes + first * target.columns * static_cast<int64_t>(rows.element_size()));
  while (left > 0) {
    const ssize_t written = ::pwrite(impl_->descriptor, bytes, left, offset);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0)
      fail_user("{}: cannot write {}: {}", impl_->partial.string(), dataset,
                std::strerror(written < 0 ? errno : ENOSPC));
    bytes += written;
    offset += written;
    left -= static_cast<size_t>(written);
  }
}

void MatrixWriter::close() {
  VIXEN_CHECK(impl_->open, "{} is closed", impl_->path.string());
  if (::fsync(impl_->descriptor) != 0) fail_user("{}: cannot write: {}", impl_->partial.string(), std::strerror(errno));
  ::close(std::exchange(impl_->descriptor, -1));
  std::error_code error;
  std::filesystem::rename(impl_->partial, impl_->target, error);
  if (error) fail_user("{}: cannot rename to {}: {}", impl_->partial.string(), impl_->path.string(), error.message());
  impl_->open = false;
  const auto folder = impl_->target.parent_path();
  sync_path(folder.empty() ? std::filesystem::path(".") : folder);
}

}  // namespace vixen

// Matrices in HDF5: HDF5 keeps the books, the rows themselves pass by mapping (in) and pwrite (out).
#include "data/hdf5_matrix.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/atomic_file.hpp"
#include "base/check.hpp"
#include "base/file.hpp"
#include "data/finite.hpp"
#include "data/hdf5_file.hpp"

namespace vixen {
namespace {

constexpr int64_t kCopyBytes = int64_t{16} << 20;  // between two releases of the file's pages
constexpr double kInfinity = std::numeric_limits<double>::infinity();

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

[[noreturn]] void refuse_value(const std::string& where, int64_t row, const std::string& value) {
  fail_user("{}: row {} holds NaN or infinity ({}), expected finite values", where, row, value);
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
    fail_user("{}: has {} dimensions{}, expected 2 (rows, columns)", where, location.shape.size(),
              location.is_null ? " and no values (a null dataspace)" : "");
  const auto dtype = scalar_type(location.type);
  if (!dtype) fail_user("{}: holds {}, expected float16, float32, float64, int32 or int64", where, location.type_name);
  impl_->dtype = *dtype;
  if (location.is_mappable) impl_->map.emplace(location.file);
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

const std::string& MatrixReader::type_name() const {
  return impl_->location.type_name;
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
      const int64_t size = range.size() * row_bytes;
      for (int64_t first = 0; first < size; first += kCopyBytes) {
        const int64_t last = std::min(size, first + kCopyBytes);
        at::parallel_for(first, last, 1 << 20, [&](int64_t begin, int64_t end) {
          std::memcpy(target + begin, source + begin, static_cast<size_t>(end - begin));
        });
        impl_->map->advise_done({source + first, static_cast<size_t>(last - first)});
      }
    } else {
      impl_->file.read_rows(impl_->dataset, range.begin, range.size(), out.mutable_data_ptr());
    }
  }
  if (check_finite)
    if (const auto bad = first_not_finite(out)) refuse_value(where(), range.begin + bad->index / columns(), bad->text);
  return out;
}

at::Tensor MatrixReader::read_float(RowRange range) const {
  const at::Tensor rows = read(range, /*check_finite=*/true);
  if (rows.scalar_type() == at::kDouble)  // the other types have no value beyond float32's range
    if (const auto bad = first_beyond_float32(rows))
      fail_user("{}: row {} holds {}: scale the matrix", where(), range.begin + bad->index / columns(), bad->text);
  return rows.to(at::kFloat);
}

std::string MatrixReader::where() const {
  return impl_->file.where(impl_->dataset);
}

MatrixLayout MatrixLayout::parse(const std::string& text) {
  const auto fields = nlohmann::json::parse(text);
  MatrixLayout layout(fields.at("path").get<std::string>());
  for (const auto& [name, target] : fields.at("datasets").items())
    layout.add(name, target.at(0), target.at(1), static_cast<at::ScalarType>(target.at(2).get<int>()),
               static_cast<Floats>(target.at(3).get<int>()), target.at(4));
  return layout;
}

std::string MatrixLayout::text() const {
  nlohmann::json datasets = nlohmann::json::object();
  for (const auto& [name, target] : targets_)
    datasets[name] = {target.rows, target.columns, static_cast<int>(target.dtype), static_cast<int>(target.floats),
                      target.offset_bytes};
  return nlohmann::json{{"path", path_.string()}, {"datasets", datasets}}.dump();
}

void MatrixLayout::add(const std::string& dataset, int64_t rows, int64_t columns, at::ScalarType dtype, Floats floats,
                       int64_t offset_bytes) {
  targets_[dataset] = {rows, columns, dtype, floats, offset_bytes};
}

FilePiece MatrixLayout::piece(const std::string& dataset, int64_t first, const at::Tensor& data) const {
  const auto found = targets_.find(dataset);
  VIXEN_CHECK(found != targets_.end(), "no dataset {}", dataset);
  const Target& target = found->second;
  VIXEN_CHECK(data.dim() == 2 && data.size(1) == target.columns && first >= 0 && first + data.size(0) <= target.rows,
              "{}: rows {} + {} x {} into [{}, {}]", dataset, first, data.size(0), data.size(1), target.rows,
              target.columns);
  const at::Tensor rows = data.to(at::kCPU, target.dtype).contiguous();
  const bool may_be_missing = target.floats == Floats::kFiniteOrMinusInfinity;
  const auto bad = first_not_finite(may_be_missing ? rows.masked_fill(rows.eq(-kInfinity), 0) : rows);
  if (bad)
    fail_user("{}: {} row {} would be written as {}: the values it was computed from are too large for their type",
              path_.string(), dataset, first + bad->index / target.columns, bad->text);
  return {target.offset_bytes + first * target.columns * static_cast<int64_t>(rows.element_size()), rows};
}

struct MatrixWriter::Impl {
  AtomicFile file;
  MatrixLayout layout;
  std::unique_ptr<PieceWriter> pieces;  // null before the file is an HDF5 file, and once it is closed
};

MatrixWriter::MatrixWriter(const std::filesystem::path& path, const std::map<std::string, std::string>& attributes)
    : impl_(new Impl{AtomicFile(path), MatrixLayout(path), nullptr}) {
  Hdf5File file(temporary(), Hdf5File::Mode::kCreate, path);
  for (const auto& [name, value] : attributes) file.set_attribute(name, value);
  file.close();
  impl_->pieces = std::make_unique<PieceWriter>(temporary(), path);
}

MatrixWriter::~MatrixWriter() = default;

const std::filesystem::path& MatrixWriter::temporary() const {
  return impl_->file.temporary();
}

const MatrixLayout& MatrixWriter::layout() const {
  return impl_->layout;
}

void MatrixWriter::add(const std::string& dataset, int64_t rows, int64_t columns, at::ScalarType dtype, Floats floats) {
  VIXEN_CHECK(impl_->pieces && rows >= 0 && columns >= 0 && !impl_->layout.contains(dataset), "{} [{}, {}]", dataset,
              rows, columns);
  const int64_t shape[] = {rows, columns};
  Hdf5File file(temporary(), Hdf5File::Mode::kModify, impl_->file.path());
  file.create(dataset, shape, element_type(dtype));
  file.close();
  // The space lies in the file now (as a hole): rows go there directly, without HDF5, so that a full disk is an errno.
  const Hdf5File finished(temporary(), Hdf5File::Mode::kRead, impl_->file.path());
  impl_->layout.add(dataset, rows, columns, dtype, floats, finished.locate(dataset).offset_bytes);
}

void MatrixWriter::write(const std::string& dataset, int64_t first, const at::Tensor& data) {
  VIXEN_CHECK(impl_->pieces, "{} is closed", impl_->file.path().string());
  const FilePiece piece = impl_->layout.piece(dataset, first, data);
  impl_->pieces->write(piece.offset, piece.bytes());
}

void MatrixWriter::close() {
  VIXEN_CHECK(impl_->pieces, "{} is closed", impl_->file.path().string());
  impl_->pieces->sync();
  impl_->pieces.reset();
  impl_->file.publish();
}

}  // namespace vixen

// Opens a data set: finds the contiguous datasets through HDF5, maps the file, checks every value that is an index.
#include "data/dataset.hpp"

#include <cmath>
#include <cstring>
#include <limits>
#include <list>
#include <map>
#include <optional>

#include "base/check.hpp"
#include "base/file.hpp"
#include "base/progress.hpp"
#include "data/dataset_check.hpp"
#include "data/dataset_identity.hpp"
#include "data/hdf5_file.hpp"

namespace vixen {
namespace {

constexpr const char* kFormat = "vixen-dataset";
constexpr int64_t kVersion = 1;

template <typename T>
constexpr ElementType element_of();
template <>
constexpr ElementType element_of<int64_t>() {
  return ElementType::kInt64;
}
template <>
constexpr ElementType element_of<int32_t>() {
  return ElementType::kInt32;
}
template <>
constexpr ElementType element_of<char>() {
  return ElementType::kUint8;
}
template <>
constexpr ElementType element_of<uint16_t>() {
  return ElementType::kFloat16;
}

}  // namespace

struct Dataset::Impl {
  explicit Impl(const std::filesystem::path& file) : hdf5(file, Hdf5File::Mode::kRead) {}

  Hdf5File hdf5;
  std::map<std::filesystem::path, MappedFile> maps;  // the file, and those that external links lead to
  std::list<std::vector<std::byte>> copies;          // of datasets that another writer placed at an odd address
  DatasetInfo info;
  SequenceTable train, test, labels;
  Ragged<int32_t> train_labels, test_labels, test_filter;
  ImageStore images;
  Prompts prompts;
  std::optional<DatasetIdentity> identity;
  bool identity_is_stored = false;

  void read_info();
  void read_identity();
  DatasetLocation locate(const std::string& dataset, ElementType type, size_t n_dims);
  const std::byte* bytes_of(const DatasetLocation& location);
  template <typename T>
  std::span<const T> values(const std::string& dataset);
  template <typename T>
  Ragged<T> ragged(const std::string& group);
  SequenceTable sequences(const std::string& group);
  void read_images();
  void read_prompts();
  void check_sequences(const std::string& group, const SequenceTable& table) const;
  Ragged<int32_t> label_rows(const std::string& group, const SequenceTable& queries);
  void check_labels(const std::string& group, const Ragged<int32_t>& rows, int64_t least) const;
};

void Dataset::Impl::read_info() {
  const std::string file = hdf5.path().string();
  if (!hdf5.has_attribute("format"))
    fail_user("{}: not a data set: attribute 'format' is missing, expected '{}' (made by tools/prepare_dataset.py)",
              file, kFormat);
  const std::string format = hdf5.string_attribute("format");
  if (format != kFormat) fail_user("{}: attribute 'format' is '{}', expected '{}'", file, format, kFormat);
  const int64_t version = hdf5.int_attribute("version");
  if (version != kVersion)
    fail_user("{}: attribute 'version' is {}, this program reads version {}: re-run prepare_dataset", file, version,
              kVersion);
  info.name = hdf5.string_attribute("name");
  info.tokenizer_sha256 = hdf5.string_attribute("tokenizer_sha256");
  info.vocabulary = hdf5.int_attribute("vocabulary");
  info.max_length = hdf5.int_attribute("max_length");
  info.max_images = hdf5.int_attribute("max_images");
  info.propensity_a = hdf5.double_attribute("propensity_a");
  info.propensity_b = hdf5.double_attribute("propensity_b");
  for (const auto& [name, value] : {std::pair{"propensity_a", info.propensity_a}, {"propensity_b", info.propensity_b}})
    if (!std::isfinite(value) || value < 0)
      fail_user("{}: attribute '{}' is {}, expected a finite number of at least 0", file, name, value);
  if (info.vocabulary < 1) fail_user("{}: attribute 'vocabulary' is {}, expected at least 1", file, info.vocabulary);
  if (info.max_length < 1) fail_user("{}: attribute 'max_length' is {}, expected at least 1", file, info.max_length);
  if (info.max_images < 0) fail_user("{}: attribute 'max_images' is {}, expected at least 0", file, info.max_images);
  if (!hdf5.has_attribute("bos_token")) return;  // older sets do not say
  const int64_t bos = hdf5.int_attribute("bos_token");
  if (bos < -1 || bos >= info.vocabulary)
    fail_user("{}: attribute 'bos_token' is {}, expected a token id in [0, {}), the vocabulary, or -1 for none", file,
              bos, info.vocabulary);
  info.bos_token = static_cast<int32_t>(bos);
}

void Dataset::Impl::read_identity() {
  DatasetIdentity stored;
  for (const auto& part : identity_parts()) {
    const std::string attribute = identity_attribute(part);
    if (!hdf5.has_attribute(attribute)) return;  // older sets do not say
    const std::string value = hdf5.string_attribute(attribute);
    if (value.size() != 16 || value.find_first_not_of("0123456789abcdef") != value.npos)
      fail_user("{}: attribute '{}' is '{}', expected 16 hexadecimal digits", hdf5.path().string(), attribute, value);
    stored.*part.member = value;
  }
  identity = stored;
  identity_is_stored = true;
}

DatasetLocation Dataset::Impl::locate(const std::string& dataset, ElementType type, size_t n_dims) {
  const DatasetLocation found = hdf5.describe(dataset);
  const std::string where = hdf5.where(dataset);
  if (found.shape.size() != n_dims) fail_user("{}: has {} dimensions, expected {}", where, found.shape.size(), n_dims);
  if (found.elements() > 0 && found.layout != DatasetLayout::kContiguous)
    fail_user("{}: is {}, expected a contiguous dataset (not chunked, not compressed): re-run prepare_dataset", where,
              layout_name(found.layout));
  if (found.type != type || (found.elements() > 0 && !found.is_mappable))
    fail_user("{}: holds {}, expected {}", where, found.type_name, element_name(type));
  return hdf5.locate(dataset);
}

const std::byte* Dataset::Impl::bytes_of(const DatasetLocation& location) {
  const auto map = maps.try_emplace(location.file, location.file).first;
  return map->second.bytes().data() + location.offset_bytes;
}

template <typename T>
std::span<const T> Dataset::Impl::values(const std::string& dataset) {
  const DatasetLocation location = locate(dataset, element_of<T>(), 1);
  if (location.elements() == 0) return {};
  const std::byte* bytes = bytes_of(location);
  if (reinterpret_cast<uintptr_t>(bytes) % alignof(T) != 0) {
    copies.emplace_back(bytes, bytes + location.size_bytes);
    bytes = copies.back().data();
  }
  return {reinterpret_cast<const T*>(bytes), static_cast<size_t>(location.elements())};
}

template <typename T>
Ragged<T> Dataset::Impl::ragged(const std::string& group) {
  const Ragged<T> rows{values<int64_t>(group + "/offsets"), values<T>(group + "/values")};
  check_offsets(hdf5.where(group), rows.offsets, static_cast<int64_t>(rows.values.size()));
  return rows;
}

SequenceTable Dataset::Impl::sequences(const std::string& group) {
  SequenceTable table{ragged<int32_t>(group + "/tokens"), ragged<int32_t>(group + "/images"),
                      ragged<char>(group + "/texts")};
  for (const auto& [name, rows] : {std::pair{"images", table.images.size()}, {"texts", table.texts.size()}})
    if (rows != table.size())
      fail_user("{}/offsets: has {} rows, expected {} as in {}/tokens", hdf5.where(group + "/" + name), rows,
                table.size(), group);
  return table;
}

void Dataset::Impl::read_images() {
  const std::string dataset = "/images/embeddings";
  const DatasetLocation location = locate(dataset, ElementType::kFloat16, 2);
  images.where = hdf5.where(dataset);
  images.n_rows = location.shape[0];
  images.width = location.shape[1];
  if (images.n_rows > 0 && images.width == 0) fail_user("{}: {} rows of width 0", hdf5.where(dataset), images.n_rows);
  if (images.n_rows > std::numeric_limits<int32_t>::max())
    fail_user("{}: {} rows, expected fewer than 2^31", hdf5.where(dataset), images.n_rows);
  // An odd address cannot be repaired by a copy here: the store may be larger than memory.
  if (location.elements() > 0 && location.offset_bytes % 2 != 0)
    fail_user("{}: begins at odd byte {}: re-run prepare_dataset", hdf5.where(dataset), location.offset_bytes);
  if (location.elements() > 0) images.rows = reinterpret_cast<const uint16_t*>(bytes_of(location));
}

void Dataset::Impl::read_prompts() {
  const std::string group = "/prompts";
  bool present = false;  // in a set for encoders the whole group may be missing, but not a part of it
  for (const char* part : {"/texts/offsets", "/texts/values", "/tokens/offsets", "/tokens/values"})
    present = present || hdf5.has_dataset(group + part);
  if (!present) return;
  prompts = {ragged<char>(group + "/texts"), ragged<int32_t>(group + "/tokens")};
  if (prompts.tokens.size() != prompts.texts.size())
    fail_user("{}/offsets: has {} rows, expected {} as in {}/texts", hdf5.where(group + "/tokens"),
              prompts.tokens.size(), prompts.texts.size(), group);
  check_texts(hdf5.where(group + "/texts"), prompts.texts);
  check_row_lengths(hdf5.where(group + "/tokens"), prompts.tokens.offsets, 1, std::numeric_limits<int32_t>::max());
  check_values_below(hdf5.where(group + "/tokens"), prompts.tokens, info.vocabulary, "token id", "the vocabulary");
}

void Dataset::Impl::check_sequences(const std::string& group, const SequenceTable& table) const {
  const std::string tokens = hdf5.where(group + "/tokens"), pictures = hdf5.where(group + "/images");
  check_row_lengths(tokens, table.tokens.offsets, 1, info.max_length);
  check_values_below(tokens, table.tokens, info.vocabulary, "token id", "the vocabulary");
  if (info.bos_token >= 0) check_first_values(tokens, table.tokens, info.bos_token, "token", "attribute 'bos_token'");
  check_row_lengths(pictures, table.images.offsets, 0, info.max_images);
  check_values_below(pictures, table.images, images.n_rows, "image row", "the rows of /images/embeddings");
}

Ragged<int32_t> Dataset::Impl::label_rows(const std::string& group, const SequenceTable& queries) {
  const auto rows = ragged<int32_t>(group);
  if (rows.size() != queries.size())
    fail_user("{}/offsets: has {} rows, expected {}, one a query", hdf5.where(group), rows.size(), queries.size());
  return rows;
}

void Dataset::Impl::check_labels(const std::string& group, const Ragged<int32_t>& rows, int64_t least) const {
  const std::string where = hdf5.where(group);
  check_row_lengths(where, rows.offsets, least, labels.size());
  check_values_below(where, rows, labels.size(), "label", "the number of labels");
  check_ascending(where, rows);
}

Dataset::Dataset(const std::filesystem::path& path, bool check_values) : impl_(std::make_unique<Impl>(path)) {
  const Stage stage("check " + path.string());
  Impl& d = *impl_;
  d.read_info();
  d.read_identity();
  d.read_images();
  d.read_prompts();
  d.train = d.sequences("/train");
  d.test = d.sequences("/test");
  d.labels = d.sequences("/label");
  d.train_labels = d.label_rows("/train/labels", d.train);
  d.test_labels = d.label_rows("/test/labels", d.test);
  d.test_filter = d.label_rows("/test/filter", d.test);
  if (d.labels.size() > std::numeric_limits<int32_t>::max())
    fail_user("{}: {} labels, expected fewer than 2^31", path.string(), d.labels.size());
  d.hdf5.close();  // from here on only the mapping is used
  if (!check_values) return;
  d.check_sequences("/train", d.train);
  d.check_sequences("/test", d.test);
  d.check_sequences("/label", d.labels);
  d.check_labels("/train/labels", d.train_labels, 1);
  d.check_labels("/test/labels", d.test_labels, 0);
  d.check_labels("/test/filter", d.test_filter, 0);
}

Dataset::~Dataset() = default;

const std::filesystem::path& Dataset::path() const {
  return impl_->hdf5.path();
}
const DatasetInfo& Dataset::info() const {
  return impl_->info;
}
const SequenceTable& Dataset::train() const {
  return impl_->train;
}
const SequenceTable& Dataset::test() const {
  return impl_->test;
}
const SequenceTable& Dataset::labels() const {
  return impl_->labels;
}
const Ragged<int32_t>& Dataset::train_labels() const {
  return impl_->train_labels;
}
const Ragged<int32_t>& Dataset::test_labels() const {
  return impl_->test_labels;
}
const Ragged<int32_t>& Dataset::test_filter() const {
  return impl_->test_filter;
}
const ImageStore& Dataset::images() const {
  return impl_->images;
}
const Prompts& Dataset::prompts() const {
  return impl_->prompts;
}

const DatasetIdentity& Dataset::identity() const {
  if (!impl_->identity) impl_->identity = compute_identity(*this);
  return *impl_->identity;
}

bool Dataset::identity_is_stored() const {
  return impl_->identity_is_stored;
}

}  // namespace vixen

#include "model/weights/safetensors.hpp"

#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <limits>
#include <mutex>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <set>
#include <utility>

#include "base/activity.hpp"
#include "base/check.hpp"
#include "base/file_kind.hpp"
#include "base/text.hpp"
#include "data/finite.hpp"

namespace vixen {
namespace {

using Json = nlohmann::json;

static_assert(std::endian::native == std::endian::little, "safetensors bytes are little-endian");

// The reference implementation's limit: a longer header is a damaged length.
constexpr uint64_t kMaxHeaderBytes = 100'000'000;
constexpr size_t kLengthBytes = 8;
constexpr size_t kPieceBytes = size_t{1} << 24;
constexpr const char* kMetadata = "__metadata__";

struct Dtype {
  const char* name;
  int64_t bits;
  std::optional<at::ScalarType> torch;  // none: known to the format, not to us
};

/// The dtypes of the reference implementation.
constexpr Dtype kDtypes[] = {
    {"BOOL", 8, at::kBool},
    {"F4", 4, std::nullopt},
    {"F6_E2M3", 6, std::nullopt},
    {"F6_E3M2", 6, std::nullopt},
    {"U8", 8, at::kByte},
    {"I8", 8, at::kChar},
    {"F8_E5M2", 8, at::kFloat8_e5m2},
    {"F8_E4M3", 8, at::kFloat8_e4m3fn},
    {"F8_E8M0", 8, std::nullopt},
    {"F8_E4M3FNUZ", 8, std::nullopt},
    {"F8_E5M2FNUZ", 8, std::nullopt},
    {"I16", 16, at::kShort},
    {"U16", 16, at::kUInt16},
    {"F16", 16, at::kHalf},
    {"BF16", 16, at::kBFloat16},
    {"I32", 32, at::kInt},
    {"U32", 32, at::kUInt32},
    {"F32", 32, at::kFloat},
    {"C64", 64, std::nullopt},
    {"F64", 64, at::kDouble},
    {"I64", 64, at::kLong},
    {"U64", 64, at::kUInt64},
};

/// "element [2, 17]: NaN".
std::string element_text(const BadValue& bad, at::IntArrayRef shape) {
  return shape.empty() ? bad.text : fmt::format("element {}: {}", place_of(bad.index, shape), bad.text);
}

const char* name_of(at::ScalarType dtype) {
  for (const Dtype& known : kDtypes)
    if (dtype == known.torch) return known.name;
  VIXEN_CHECK(false, "safetensors has no dtype for {}", c10::toString(dtype));
  return "";
}

// Parses the header; a key that occurs twice is refused (nlohmann would keep the last one silently).
Json parse_header(const std::string& file, std::string_view text) {
  std::set<std::string> seen;
  std::string repeated;
  const auto watch = [&](int depth, Json::parse_event_t event, Json& parsed) {
    constexpr int kDeepest = 10;  // the format has three levels; printing a value recurses
    if (depth > kDeepest) fail_user("{}: damaged safetensors header: nested deeper than {} levels", file, kDeepest);
    if (event == Json::parse_event_t::key && depth == 1 && !seen.insert(parsed.get<std::string>()).second)
      repeated = parsed.get<std::string>();
    return true;
  };
  // JSON's reader takes a zero byte for the end of the text; the format knows no such padding.
  if (const size_t zero = text.find('\0'); zero != std::string_view::npos)
    fail_user("{}: damaged safetensors header: a zero byte at its byte {}, expected a JSON object, padded with blanks",
              file, zero);
  // It would also step over a byte order mark in front, which the reference implementation refuses; blanks both take.
  const std::string_view content = text.substr(std::min(text.find_first_not_of(" \t\r\n"), text.size()));
  if (!content.starts_with('{'))
    fail_user("{}: damaged safetensors header: found \"{}\" at its start, expected a JSON object", file,
              shown(content.substr(0, std::max<size_t>(1, first_character(content).bytes))));
  Json header;
  try {
    header = Json::parse(text.begin(), text.end(), watch);
  } catch (const Json::exception& error) {
    fail_user("{}: damaged safetensors header: {}; expected a JSON object", file, shown(error.what()));
  }
  if (!repeated.empty()) fail_user("{}: damaged safetensors header: tensor {} occurs twice", file, shown(repeated));
  return header;
}

uint64_t non_negative(const std::string& file, const std::string& tensor, const char* field, const Json& value) {
  if (!value.is_number_unsigned())
    fail_user("{}: damaged safetensors header: tensor {}: {} holds {}, expected non-negative integers", file, tensor,
              field, value.dump());
  return value.get<uint64_t>();
}

}  // namespace

struct SafetensorsFile::Checked {
  std::mutex mutex;
  std::set<std::string> names;
};

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path)
    : file_(std::make_shared<const MappedFile>(path)), checked_(std::make_shared<Checked>()) {
  const std::string file = path.string();
  const auto bytes = file_->bytes();
  if (bytes.size() < kLengthBytes)
    fail_user("{}: not a safetensors file: {} bytes, expected at least {}{}", file, bytes.size(), kLengthBytes,
              found_instead(path));
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes.data(), kLengthBytes);
  if (header_bytes > bytes.size() - kLengthBytes || header_bytes > kMaxHeaderBytes) {
    const std::string kind = what_it_is(path);
    if (!kind.empty()) fail_user("{}: not a safetensors file: found {}", file, kind);
    fail_user("{}: damaged safetensors header: its length reads {} bytes, expected at most {}", file, header_bytes,
              std::min<uint64_t>(bytes.size() - kLengthBytes, kMaxHeaderBytes));
  }
  data_begin_ = kLengthBytes + header_bytes;
  const size_t data_bytes = bytes.size() - data_begin_;
  const Json header = parse_header(file, {reinterpret_cast<const char*>(bytes.data()) + kLengthBytes, header_bytes});
  for (const auto& [name, fields] : header.items()) {
    if (name == kMetadata)
      read_metadata(fields);
    else
      read_entry(name, fields, data_bytes);
  }
  check_ranges(data_bytes);
}

void SafetensorsFile::read_metadata(const Json& fields) {
  const std::string file = file_->path().string();
  if (fields.is_null()) return;  // the reference implementation takes it for none
  if (!fields.is_object()) fail_user("{}: damaged safetensors header: __metadata__ is not an object", file);
  for (const auto& [key, value] : fields.items()) {
    if (!value.is_string())
      fail_user("{}: damaged safetensors header: __metadata__.{} is {}, expected a string", file, shown(key),
                shown(value.dump(), 60));
    metadata_[key] = value.get<std::string>();
  }
}

void SafetensorsFile::read_entry(const std::string& name, const Json& fields, size_t data_bytes) {
  const std::string file = file_->path().string(), tensor = shown(name);
  if (!fields.is_object() || !fields.contains("dtype") || !fields.contains("shape") ||
      !fields.contains("data_offsets") || !fields["dtype"].is_string() || !fields["shape"].is_array() ||
      !fields["data_offsets"].is_array() || fields["data_offsets"].size() != 2)
    fail_user(
        "{}: damaged safetensors header: tensor {} reads {}, expected {{\"dtype\", \"shape\", \"data_offsets\": "
        "[begin, "
        "end]}}",
        file, tensor, shown(fields.dump(), 100));
  Entry entry;
  entry.dtype_name = fields["dtype"].get<std::string>();
  const auto known = std::find_if(std::begin(kDtypes), std::end(kDtypes),
                                  [&](const Dtype& dtype) { return entry.dtype_name == dtype.name; });
  if (known == std::end(kDtypes))
    fail_user("{}: tensor {} has dtype {}, expected one of BOOL, U8..U64, I8..I64, F4..F64, BF16, C64", file, tensor,
              shown(entry.dtype_name, 40));
  entry.dtype = known->torch;
  // The product of the dimensions is bounded as it grows, so that no shape overflows.
  auto expected_bits = static_cast<uint64_t>(known->bits);
  bool empty = false, too_large = false;
  for (const auto& dimension : fields["shape"]) {
    const uint64_t size = non_negative(file, tensor, "shape", dimension);
    if (size > uint64_t{std::numeric_limits<int64_t>::max()}) too_large = true;
    entry.shape.push_back(static_cast<int64_t>(size));
    empty |= size == 0;
    if (size > 0 && expected_bits > std::numeric_limits<uint64_t>::max() / size) too_large = true;
    expected_bits *= size > 0 ? size : 1;
  }
  if (empty) expected_bits = 0;
  entry.begin = non_negative(file, tensor, "data_offsets", fields["data_offsets"][0]);
  entry.end = non_negative(file, tensor, "data_offsets", fields["data_offsets"][1]);
  if (entry.begin > entry.end || entry.end > data_bytes)
    fail_user(
        "{}: tensor {} lies at bytes [{}, {}) of the data, expected a range inside its {} bytes: is the file "
        "truncated?",
        file, tensor, entry.begin, entry.end, data_bytes);
  if (too_large || expected_bits % 8 != 0 || entry.end - entry.begin != expected_bits / 8)
    fail_user("{}: damaged safetensors header: tensor {} of {} {} holds {} bytes, expected {}", file, tensor,
              entry.dtype_name, entry.shape, entry.end - entry.begin,
              too_large ? "fewer dimensions" : fmt::format("{}", static_cast<double>(expected_bits) / 8));
  entries_.emplace(name, std::move(entry));
}

// The format has no holes: ranges in order must meet and end with the file.
void SafetensorsFile::check_ranges(size_t data_bytes) const {
  const std::string file = file_->path().string();
  std::vector<std::pair<const Entry*, const std::string*>> ordered;
  for (const auto& [name, entry] : entries_) ordered.emplace_back(&entry, &name);
  std::sort(ordered.begin(), ordered.end(), [](const auto& a, const auto& b) {
    return std::pair(a.first->begin, a.first->end) < std::pair(b.first->begin, b.first->end);
  });
  size_t end = 0;
  for (const auto& [entry, name] : ordered) {
    if (entry->begin != end)
      fail_user("{}: damaged safetensors header: tensor {} begins at byte {} of the data, {} (expected {})", file,
                shown(*name), entry->begin, entry->begin < end ? "inside the tensor before it" : "behind a hole", end);
    end = entry->end;
  }
  if (end != data_bytes)
    fail_user("{}: {} bytes of tensors, expected {} as the header says: is the file damaged?", file, data_bytes, end);
}

std::vector<std::string> SafetensorsFile::names() const {
  std::vector<std::string> names;
  for (const auto& [name, entry] : entries_) names.push_back(name);
  return names;
}

bool SafetensorsFile::contains(const std::string& name) const {
  return entries_.contains(name);
}

const SafetensorsFile::Entry& SafetensorsFile::entry(const std::string& name) const {
  const auto found = entries_.find(name);
  if (found == entries_.end()) fail_user("{}: tensor {} is missing", file_->path().string(), shown(name));
  return found->second;
}

std::span<const std::byte> SafetensorsFile::bytes_of(const Entry& entry) const {
  return file_->bytes().subspan(data_begin_ + entry.begin, entry.end - entry.begin);
}

at::Tensor SafetensorsFile::tensor(const std::string& name) const {
  const Entry& found = entry(name);
  if (!found.dtype)
    fail_user("{}: tensor {} has dtype {}, which this program does not read: expected F32, F16, BF16 or F64",
              file_->path().string(), shown(name), found.dtype_name);
  const auto bytes = bytes_of(found);
  const auto options = at::TensorOptions().dtype(*found.dtype);
  if (bytes.empty()) return at::empty(found.shape, options);
  at::Tensor values;
  // The format does not promise alignment (only its usual writers do): unaligned elements are copied.
  if (reinterpret_cast<uintptr_t>(bytes.data()) % c10::elementSize(*found.dtype) != 0) {
    values = at::empty(found.shape, options);
    std::memcpy(values.data_ptr(), bytes.data(), bytes.size());
  } else {
    values = at::from_blob(
        const_cast<std::byte*>(bytes.data()), found.shape, [file = file_](void*) {}, options);
  }
  check_finite(name, values);
  return values;
}

void SafetensorsFile::check_finite(const std::string& name, const at::Tensor& values) const {
  {
    const std::lock_guard lock(checked_->mutex);
    if (checked_->names.contains(name)) return;
  }
  const AtFile at_file(file_->path().string());  // pages that are read for the first time
  if (const auto bad = first_beyond_float32(values))
    fail_user("{}: tensor {} holds NaN or infinity ({}), expected finite weights", file_->path().string(), shown(name),
              element_text(*bad, values.sizes()));
  const std::lock_guard lock(checked_->mutex);
  checked_->names.insert(name);
}

void SafetensorsFile::done_with(const std::string& name) const {
  file_->advise_done(bytes_of(entry(name)));
}

int64_t SafetensorsEntry::bytes() const {
  int64_t count = static_cast<int64_t>(c10::elementSize(dtype));
  for (const int64_t dimension : shape) count *= dimension;
  return count;
}

void write_safetensors(const std::filesystem::path& path, const std::map<std::string, at::Tensor>& tensors,
                       const std::map<std::string, std::string>& metadata,
                       const std::function<void()>& between_pieces) {
  std::vector<SafetensorsEntry> entries;
  std::vector<at::Tensor> values;
  for (const auto& [name, tensor] : tensors) {
    VIXEN_CHECK(tensor.defined(), "cannot write tensor '{}'", name);
    entries.push_back({.name = name, .dtype = tensor.scalar_type(), .shape = tensor.sizes().vec()});
    values.push_back(tensor);
  }
  write_safetensors(
      path, entries, [&](size_t i) { return values[i]; }, metadata, between_pieces);
}

void write_safetensors(const std::filesystem::path& path, const std::vector<SafetensorsEntry>& entries,
                       const std::function<at::Tensor(size_t)>& value_of,
                       const std::map<std::string, std::string>& metadata,
                       const std::function<void()>& between_pieces) {
  // Wide elements first, so that every tensor is aligned to its element.
  std::vector<size_t> order(entries.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return c10::elementSize(entries[a].dtype) > c10::elementSize(entries[b].dtype);
  });
  Json header = Json::object();
  if (!metadata.empty()) header[kMetadata] = metadata;
  uint64_t end = 0;
  for (const size_t i : order) {
    const SafetensorsEntry& entry = entries[i];
    VIXEN_CHECK(entry.name != kMetadata && !header.contains(entry.name), "cannot write tensor '{}'", entry.name);
    const uint64_t begin = end;
    end += static_cast<uint64_t>(entry.bytes());
    header[entry.name] = {{"dtype", name_of(entry.dtype)}, {"shape", entry.shape}, {"data_offsets", {begin, end}}};
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t header_bytes = text.size();

  write_atomically(path, [&](const std::filesystem::path& temporary) {
    const auto fail = [&] { fail_user("{}: cannot write: {}", path.string(), std::strerror(errno)); };
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(temporary.c_str(), "wb"), &std::fclose);
    if (!file) fail();
    const auto write = [&](const void* data, size_t size) {  // of an empty tensor there is no data
      for (size_t done = 0; done < size;) {
        if (between_pieces) between_pieces();
        const size_t piece = std::min(size - done, kPieceBytes);
        if (std::fwrite(static_cast<const char*>(data) + done, 1, piece, file.get()) != piece) fail();
        done += piece;
      }
    };
    write(&header_bytes, kLengthBytes);
    write(text.data(), text.size());
    for (const size_t i : order) {
      const at::Tensor value = value_of(i).detach().to(at::kCPU).contiguous();
      VIXEN_CHECK(value.scalar_type() == entries[i].dtype && value.sizes() == at::IntArrayRef(entries[i].shape),
                  "tensor {} is not what was announced", entries[i].name);
      if (const auto bad = first_not_finite(value))
        throw NotFiniteError(
            fmt::format("{}: tensor {} would be written with NaN or infinity ({}): the weights diverged in training; "
                        "lower the learning rates or use fp32",
                        path.string(), entries[i].name, element_text(*bad, value.sizes())));
      write(value.const_data_ptr(), value.nbytes());
    }
    if (std::fflush(file.get()) != 0) fail();
  });
}

}  // namespace vixen

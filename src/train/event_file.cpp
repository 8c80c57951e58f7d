// Records, checksums and the few protocol buffer fields of an event file.
#include "train/event_file.hpp"

#include <unistd.h>

#include <array>
#include <bit>
#include <chrono>
#include <cstring>
#include <utility>

#include "base/check.hpp"
#include "base/host_name.hpp"

namespace vixen {
namespace {

static_assert(std::endian::native == std::endian::little, "records are little-endian");

constexpr std::array<uint32_t, 256> make_crc_table() {
  std::array<uint32_t, 256> table = {};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82F63B78u : 0u);
    table[byte] = crc;
  }
  return table;
}

/// CRCs of data that holds CRCs are weak: TFRecord rotates and offsets them.
uint32_t masked(uint32_t crc) {
  return ((crc >> 15) | (crc << 17)) + 0xA282EAD8u;
}

template <typename Number>
std::string raw_bytes(Number value) {
  std::string bytes(sizeof(value), '\0');
  std::memcpy(bytes.data(), &value, sizeof(value));
  return bytes;
}

std::string varint(uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>((value & 0x7F) | 0x80);
  return bytes + static_cast<char>(value);
}

enum class WireType : uint64_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

std::string field_head(uint64_t number, WireType type) {
  return varint(number << 3 | static_cast<uint64_t>(type));
}
std::string field(uint64_t number, std::string_view bytes) {
  return field_head(number, WireType::kBytes) + varint(bytes.size()) + std::string(bytes);
}
std::string field(uint64_t number, double value) {
  return field_head(number, WireType::kFixed64) + raw_bytes(value);
}
std::string field(uint64_t number, float value) {
  return field_head(number, WireType::kFixed32) + raw_bytes(value);
}
std::string field(uint64_t number, int64_t value) {
  return field_head(number, WireType::kVarint) + varint(static_cast<uint64_t>(value));
}

double now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::filesystem::path unused_path(const std::filesystem::path& folder) {
  // Zero-padded seconds first: TensorBoard reads the files of a folder in the order of their names.
  const std::string stem =
      fmt::format("events.out.tfevents.{:010}.{}.{}", static_cast<int64_t>(now()), host_name(), ::getpid());
  auto path = folder / (stem + ".0");
  for (int number = 1; std::filesystem::exists(path); ++number) path = folder / fmt::format("{}.{}", stem, number);
  return path;
}

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  static constexpr auto kTable = make_crc_table();
  uint32_t crc = ~0u;
  for (const char byte : bytes) crc = kTable[(crc ^ static_cast<unsigned char>(byte)) & 0xFF] ^ (crc >> 8);
  return ~crc;
}

std::string tfrecord(std::string_view bytes) {
  const std::string length = raw_bytes(static_cast<uint64_t>(bytes.size()));
  return length + raw_bytes(masked(crc32c(length))) + std::string(bytes) + raw_bytes(masked(crc32c(bytes)));
}

std::string scalar_event(double wall_time, int64_t step, std::string_view tag, float value) {
  const std::string entry = field(1, tag) + field(2, value);
  return field(1, wall_time) + field(2, step) + field(5, std::string_view(field(1, std::string_view(entry))));
}

EventFileWriter::EventFileWriter(const std::filesystem::path& folder, int64_t first_step) : file_(unused_path(folder)) {
  records_ = tfrecord(field(1, now()) + field(3, std::string_view("brain.Event:2")));
  if (first_step > 0) {
    constexpr int64_t kStart = 1;
    records_ += tfrecord(field(1, now()) + field(2, first_step) + field(7, std::string_view(field(1, kStart))));
  }
  if (!flush()) throw UserError(failure());
}

void EventFileWriter::scalar(std::string_view tag, int64_t step, double value) {
  records_ += tfrecord(scalar_event(now(), step, tag, static_cast<float>(value)));
}

bool EventFileWriter::flush() {
  return file_.append(std::exchange(records_, {}));
}

}  // namespace vixen

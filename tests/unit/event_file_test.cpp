// Event files: the checksums' published vectors, and that a file reads back as records of the events written.
#include "train/event_file.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <optional>
#include <vector>

#include "base/file.hpp"
#include "fixtures/fault.hpp"
#include "fixtures/temp_dir.hpp"

namespace vixen {
namespace {

namespace fs = std::filesystem;

template <typename Number>
Number take(std::string_view& bytes) {
  Number value;
  std::memcpy(&value, bytes.data(), sizeof(value));
  bytes.remove_prefix(sizeof(value));
  return value;
}

uint64_t take_varint(std::string_view& bytes) {
  uint64_t value = 0;
  for (int shift = 0;; shift += 7) {
    const auto byte = static_cast<unsigned char>(bytes.at(0));
    bytes.remove_prefix(1);
    value |= uint64_t{byte & 0x7Fu} << shift;
    if ((byte & 0x80) == 0) return value;
  }
}

uint32_t unmasked(uint32_t masked) {
  const uint32_t rotated = masked - 0xA282EAD8u;
  return (rotated >> 17) | (rotated << 15);
}

struct Event {
  double wall_time = 0;
  int64_t step = 0;
  std::string file_version, tag;
  std::optional<float> value;
  int64_t session_status = 0;
};

/// A reader of the fields that TensorBoard looks at; fails the test on any other field.
void parse_into(Event& event, std::string_view bytes, int level) {
  while (!bytes.empty()) {
    const uint64_t head = take_varint(bytes);
    const uint64_t number = head >> 3, wire = head & 7;
    if (level == 0 && head == (1u << 3 | 1)) {
      event.wall_time = take<double>(bytes);
    } else if (level == 0 && head == (2u << 3 | 0)) {
      event.step = static_cast<int64_t>(take_varint(bytes));
    } else if (level == 2 && head == (2u << 3 | 5)) {
      event.value = take<float>(bytes);
    } else if (level == 3 && head == (1u << 3 | 0)) {
      event.session_status = static_cast<int64_t>(take_varint(bytes));
    } else {
      ASSERT_EQ(wire, 2u) << "field " << number << " at level " << level;
      const auto size = take_varint(bytes);
      const auto inner = bytes.substr(0, size);
      bytes.remove_prefix(size);
      if (level == 0 && number == 3)
        event.file_version = inner;
      else if (level == 0 && number == 5)
        parse_into(event, inner, 1);
      else if (level == 0 && number == 7)
        parse_into(event, inner, 3);
      else if (level == 1 && number == 1)
        parse_into(event, inner, 2);
      else if (level == 2 && number == 1)
        event.tag = inner;
      else
        FAIL() << "unexpected field " << number << " at level " << level;
    }
  }
}

std::vector<Event> read_events(const fs::path& path) {
  const std::string text = read_text(path);
  std::string_view bytes = text;
  std::vector<Event> events;
  while (!bytes.empty()) {
    const auto head = bytes.substr(0, 8);
    const auto length = take<uint64_t>(bytes);
    EXPECT_EQ(unmasked(take<uint32_t>(bytes)), crc32c(head));
    const auto data = bytes.substr(0, length);
    bytes.remove_prefix(length);
    EXPECT_EQ(unmasked(take<uint32_t>(bytes)), crc32c(data));
    parse_into(events.emplace_back(), data, 0);
  }
  return events;
}

class EventFileTest : public testing::Test {
 protected:
  const test::TempDir dir_;
  const fs::path& folder_ = dir_.path();
};

TEST(Crc32c, GivesThePublishedValues) {
  EXPECT_EQ(crc32c("123456789"), 0xE3069283u);            // the check value of CRC-32C
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAu);  // RFC 3720, B.4
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62A8AB43u);
  std::string ascending;
  for (int i = 0; i < 32; ++i) ascending += static_cast<char>(i);
  EXPECT_EQ(crc32c(ascending), 0x46DD794Eu);
  EXPECT_EQ(crc32c(""), 0u);
}

TEST_F(EventFileTest, ReadsBackWhatWasWritten) {
  EventFileWriter writer(folder_);
  writer.scalar("loss", 1, 0.5);
  writer.scalar("seconds/step", 300, -2.25);
  writer.scalar("big", int64_t{1} << 40, 3e-8);
  writer.flush();
  const auto events = read_events(writer.path());
  ASSERT_EQ(events.size(), 4u);
  EXPECT_EQ(events[0].file_version, "brain.Event:2");
  EXPECT_EQ(events[1].tag, "loss");
  EXPECT_EQ(events[1].step, 1);
  EXPECT_EQ(events[1].value, 0.5f);
  EXPECT_GT(events[1].wall_time, 1.6e9);
  EXPECT_EQ(events[2].tag, "seconds/step");
  EXPECT_EQ(events[2].step, 300);
  EXPECT_EQ(events[2].value, -2.25f);
  EXPECT_EQ(events[3].step, int64_t{1} << 40);
  EXPECT_EQ(events[3].value, 3e-8f);
}

TEST_F(EventFileTest, EveryWriterHasAFileOfItsOwnInOrderOfNames) {
  EventFileWriter first(folder_);
  EventFileWriter second(folder_, 120);
  EXPECT_LT(first.path(), second.path());
  EXPECT_EQ(first.path().filename().string().find("events.out.tfevents."), 0u);
  const auto events = read_events(second.path());
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[1].session_status, 1);
  EXPECT_EQ(events[1].step, 120);
}

TEST_F(EventFileTest, AMissingFolderIsNamed) {
  test::expect_mentions(test::fault_of([&] { EventFileWriter writer(folder_ / "none"); }),
                        {(folder_ / "none").string(), "No such file or directory"});
}

}  // namespace
}  // namespace vixen

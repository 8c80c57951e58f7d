// Scalars for TensorBoard: a writer of events.out.tfevents.* files.
//
// The file is a sequence of records (TFRecord): length u64, masked CRC32C of the length u32, bytes, masked CRC32C of
// the bytes u32, all little-endian. The bytes are an Event protocol buffer (tensorflow/core/util/event.proto), encoded
// here by hand: wall_time = 1 (double), step = 2 (int64), file_version = 3, summary = 5 { value = 1 { tag = 1,
// simple_value = 2 (float) } }, session_log = 7 { status = 1 }.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "base/append_file.hpp"

namespace vixen {

/// CRC-32C (Castagnoli) of bytes.
uint32_t crc32c(std::string_view bytes);
/// A record around `bytes`.
std::string tfrecord(std::string_view bytes);
/// An Event with one scalar.
std::string scalar_event(double wall_time, int64_t step, std::string_view tag, float value);

/// Writes a new file into a folder; every process start has its own, TensorBoard reads them in order. One writer a
/// folder at a time (rank 0).
class EventFileWriter {
 public:
  /// first_step > 0: this run goes on from there, TensorBoard forgets what older files say about that step and later
  /// ones. UserError when the file cannot be written.
  explicit EventFileWriter(const std::filesystem::path& folder, int64_t first_step = 0);

  void scalar(std::string_view tag, int64_t step, double value);
  /// Hands everything to the operating system. False: it did not take all (base/append_file.hpp); the rest waits for
  /// the next call.
  bool flush();
  /// What stood in the way of the last flush().
  const std::string& failure() const { return file_.failure(); }
  const std::filesystem::path& path() const { return file_.path(); }

 private:
  AppendFile file_;
  std::string records_;  // since the last flush()
};

}  // namespace vixen

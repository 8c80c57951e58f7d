// metrics.jsonl and the TensorBoard event file of a run: one object a log interval.
#pragma once

#include <nlohmann/json.hpp>

#include <cstdint>
#include <filesystem>
#include <memory>

#include "base/append_file.hpp"
#include "base/now_and_then.hpp"

namespace vixen {

class EventFileWriter;

/// Appends to RUN/metrics.jsonl and RUN/events.out.tfevents.*. Rank 0 only.
class MetricsLog {
 public:
  /// Opens for appending. Lines with a step above `resume_step` are dropped first: they will be rewritten. UserError
  /// when the files cannot be made.
  MetricsLog(const std::filesystem::path& run_dir, int64_t resume_step);
  ~MetricsLog();

  /// Writes one line. Numbers also go to the event file under their (nested: a/b) keys; "step" is their step. Where the
  /// disk is full training goes on: a warning, and what is not written is kept in memory until there is room.
  void write(const nlohmann::json& line);

 private:
  AppendFile lines_;
  std::unique_ptr<EventFileWriter> events_;
  NowAndThen warning_{60};
};

}  // namespace vixen

// metrics.jsonl and the TensorBoard event file of a run: one object a log interval.
#pragma once

#include <nlohmann/json.hpp>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>

namespace vixen {

class EventFileWriter;

/// Appends to RUN/metrics.jsonl and RUN/events.out.tfevents.*. Rank 0 only.
class MetricsLog {
 public:
  /// Opens for appending. Lines with a step above `resume_step` are dropped first: they will be rewritten.
  MetricsLog(const std::filesystem::path& run_dir, int64_t resume_step);
  ~MetricsLog();

  /// Writes one line. Numbers also go to the event file under their (nested: a/b) keys; "step" is their step.
  void write(const nlohmann::json& line);

 private:
  std::filesystem::path path_;
  std::ofstream file_;
  std::unique_ptr<EventFileWriter> events_;
};

}  // namespace vixen

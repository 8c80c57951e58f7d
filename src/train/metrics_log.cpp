// metrics.jsonl and event file.
#include "train/metrics_log.hpp"

#include <fmt/format.h>

#include <fstream>
#include <string>

#include "base/file.hpp"
#include "base/log.hpp"
#include "train/event_file.hpp"

namespace vixen {
namespace {

// A run that goes on from step s writes the lines above s again: the old ones go.
void drop_lines_after(const std::filesystem::path& path, int64_t step) {
  if (!std::filesystem::exists(path)) return;
  std::ifstream file(path);
  std::string line, kept;
  bool changed = false;
  while (std::getline(file, line)) {
    const auto object = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    // A line cut by a crash does not parse: it is one of those that will be written again.
    const bool is_step = object.is_object() && object.contains("step") && object["step"].is_number_integer();
    if (!object.is_object() || (is_step && object["step"].get<int64_t>() > step))
      changed = true;
    else
      kept += line + "\n";
  }
  if (changed) write_text_atomically(path, kept);
}

std::filesystem::path opened_at(const std::filesystem::path& run_dir, int64_t resume_step) {
  auto path = run_dir / "metrics.jsonl";
  drop_lines_after(path, resume_step);
  return path;
}

}  // namespace

MetricsLog::MetricsLog(const std::filesystem::path& run_dir, int64_t resume_step)
    : lines_(opened_at(run_dir, resume_step)), events_(std::make_unique<EventFileWriter>(run_dir, resume_step + 1)) {}

MetricsLog::~MetricsLog() = default;

void MetricsLog::write(const nlohmann::json& line) {
  const bool written = lines_.append(line.dump() + "\n");
  const auto step = line.at("step").get<int64_t>();
  for (const auto& [key, value] : line.items()) {
    if (value.is_number() && key != "step") events_->scalar(key, step, value.get<double>());
    if (value.is_object())
      for (const auto& [inner, number] : value.items())
        if (number.is_number()) events_->scalar(fmt::format("{}/{}", key, inner), step, number.get<double>());
  }
  const bool all_written = events_->flush() && written;
  if (!all_written && warning_.due())
    spdlog::warn("{}: training goes on, what belongs there is written once there is room",
                 written ? events_->failure() : lines_.failure());
}

}  // namespace vixen

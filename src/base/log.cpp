// The process's logger: stderr, a clock, and the rank when there are several.
#include "base/log.hpp"

#include <spdlog/sinks/stdout_color_sinks.h>

#include <cstdlib>
#include <memory>
#include <string>

#include "base/standard_streams.hpp"

namespace vixen {
namespace {

spdlog::level::level_enum threshold_of(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

}  // namespace

void init_log(int rank, int world_size, LogLevel level) {
  auto threshold = threshold_of(level);
  if (rank > 0 && threshold == spdlog::level::info) threshold = spdlog::level::warn;
  const bool colours = std::getenv("NO_COLOR") == nullptr && std::getenv("TERM") != nullptr;
  auto sink = std::make_shared<spdlog::sinks::stderr_color_sink_mt>(colours ? spdlog::color_mode::automatic
                                                                            : spdlog::color_mode::never);
  auto logger = std::make_shared<spdlog::logger>("vixen", std::move(sink));
  logger->set_level(threshold);
  logger->flush_on(spdlog::level::warn);
  // A progress bar leaves the cursor at the start of its line: erase it before the message overwrites it.
  const std::string erase = standard_error_is_terminal() ? "\033[K" : "";
  const std::string who = world_size > 1 ? fmt::format("[rank {}/{}] ", rank, world_size) : "";
  logger->set_pattern(erase + "[%H:%M:%S] %^%L%$ " + who + "%v");
  spdlog::set_default_logger(std::move(logger));
}

}  // namespace vixen

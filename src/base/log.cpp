// The process's logger: stderr, a clock, and the rank when there are several.
#include "base/log.hpp"

#include <spdlog/sinks/stdout_color_sinks.h>

#include <cstdlib>
#include <memory>

#include "base/check.hpp"
#include "base/standard_streams.hpp"

namespace vixen {
namespace {

spdlog::level::level_enum parse_level(const std::string& level) {
  if (level == "debug") return spdlog::level::debug;
  if (level == "info") return spdlog::level::info;
  if (level == "warning") return spdlog::level::warn;
  if (level == "error") return spdlog::level::err;
  fail_user("run.log_level = {}: expected debug, info, warning or error", level);
}

}  // namespace

void init_log(int rank, int world_size, const std::string& level) {
  auto threshold = parse_level(level);
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

#include "base/allocation_end.hpp"

#include <chrono>
#include <cstdlib>
#include <string>

namespace vixen {

std::optional<double> seconds_of_allocation() {
  const char* end = std::getenv("SLURM_JOB_END_TIME");
  if (end == nullptr) return std::nullopt;
  char* rest = nullptr;
  const double seconds = std::strtod(end, &rest);
  if (rest == end || *rest != '\0' || !(seconds > 0)) return std::nullopt;
  const double now = std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  // Further away than a year is SLURM's word for never.
  const double left = seconds - now;
  return left > 365.0 * 86400 ? std::nullopt : std::optional(left);
}

}  // namespace vixen

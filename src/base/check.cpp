// Failure of an internal check.
#include "base/check.hpp"

namespace vixen::detail {

void fail_check(const char* condition, const char* file, int line, const std::string& message) {
  throw BugError(fmt::format("{}:{}: check failed: {}{}{}", file, line, condition, message.empty() ? "" : ": ", message));
}

}  // namespace vixen::detail

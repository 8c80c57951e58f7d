// Failure of an internal check: its source position, its values and the calls that led to it.
#include "base/check.hpp"

#include <execinfo.h>

#include <array>
#include <cstdlib>
#include <memory>

namespace vixen::detail {
namespace {

/// One frame a line, "binary(function+offset) [address]": addr2line turns an offset into a source line.
std::string call_trace() {
  std::array<void*, 48> frames = {};
  const int count = ::backtrace(frames.data(), static_cast<int>(frames.size()));
  const std::unique_ptr<char*, void (*)(void*)> names(::backtrace_symbols(frames.data(), count), std::free);
  std::string text;
  for (int i = 2; names != nullptr && i < count; ++i) text += fmt::format("\n  {}", names.get()[i]);
  return text;
}

}  // namespace

void fail_check(const char* condition, const char* file, int line, const std::string& message) {
  throw BugError(fmt::format("{}:{}: check failed: {}{}{}{}", file, line, condition, message.empty() ? "" : ": ",
                             message, call_trace()));
}

}  // namespace vixen::detail

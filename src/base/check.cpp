// Failure of an internal check: its source position, its values and the calls that led to it.
#include "base/check.hpp"

#include <execinfo.h>

#include <array>
#include <cstdlib>
#include <memory>

#include "base/text.hpp"

namespace vixen {
namespace {

/// A line that a terminal shows as it is. Where something long was quoted, the beginning (what and where) and the end
/// (what to do) stay.
std::string one_line(const std::string& message) {
  constexpr size_t kMost = 2000, kEnd = 500;
  std::string line = shown(message);
  if (line.size() <= kMost) return line;
  size_t end = line.size() - kEnd;
  while (end < line.size() && (static_cast<unsigned char>(line[end]) & 0xC0) == 0x80) ++end;  // a character is whole
  return shown(line, kMost - kEnd) + line.substr(end);
}

}  // namespace

UserError::UserError(const std::string& message) : std::runtime_error(one_line(message)) {}

namespace detail {
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

}  // namespace detail
}  // namespace vixen

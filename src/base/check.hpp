// Two kinds of failure: an internal error (VIXEN_CHECK) and a user error (UserError, exit code 2).
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace vixen {

/// An error that the user can fix: main prints what() as one line on stderr and exits with 2.
/// The message names the file, key or row; what was found; and what was expected. It is one line whatever came from
/// outside into it: escaped as shown() does, and cut in the middle beyond some thousand bytes.
class UserError : public std::runtime_error {
 public:
  explicit UserError(const std::string& message);
};

/// A broken invariant of the program itself: main prints it with its source position and exits with 1.
class BugError : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

/// Throws UserError with a formatted message.
template <typename... Args>
[[noreturn]] void fail_user(fmt::format_string<Args...> format, Args&&... args) {
  throw UserError(fmt::format(format, std::forward<Args>(args)...));
}

namespace detail {
[[noreturn]] void fail_check(const char* condition, const char* file, int line, const std::string& message);

inline std::string check_message() {
  return {};
}
template <typename... Args>
std::string check_message(fmt::format_string<Args...> format, Args&&... args) {
  return fmt::format(format, std::forward<Args>(args)...);
}
}  // namespace detail
}  // namespace vixen

/// VIXEN_CHECK(condition, "format {}", values...): throws BugError when the condition does not hold. Always on.
#define VIXEN_CHECK(condition, ...)                                                                             \
  do {                                                                                                          \
    if (!(condition)) [[unlikely]]                                                                              \
      ::vixen::detail::fail_check(#condition, __FILE__, __LINE__, ::vixen::detail::check_message(__VA_ARGS__)); \
  } while (false)

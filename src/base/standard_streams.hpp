// Standard input, output and error, whatever the program was started with: closed, full, or a pipe whose reader left.
#pragma once

#include <fmt/format.h>

#include <string_view>
#include <utility>

namespace vixen {

/// Call first in main, before anything opens a file: opens /dev/null in the place of each of the three that is closed,
/// for the next file opened would take its number and receive what is printed. From then on a write to a pipe without a
/// reader, or beyond the limit on file sizes (ulimit -f), is an error of that write and not the end of the process.
void prepare_standard_streams();

/// Writes to standard output. Never throws: that it did not arrive is found by finish_standard_output.
void print_text(std::string_view text);
template <typename... Args>
void print_out(fmt::format_string<Args...> format, Args&&... args) {
  print_text(fmt::format(format, std::forward<Args>(args)...));
}
/// Sends on what was printed so far. Never throws, likewise.
void flush_output();

/// True when standard error is a terminal that understands escape sequences (TERM is set, and not to "dumb").
bool standard_error_is_terminal();

/// Call last in main: flushes standard output. Returns `exit_code`, or, when that is 0 and something printed did not
/// arrive, says so on standard error and returns `failure_code`. excerpts: a reader that has left (`| head -1`) is no
/// failure.
int finish_standard_output(int exit_code, int failure_code, bool excerpts);

}  // namespace vixen

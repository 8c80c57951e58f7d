// Standard input, output and error.
#include "base/standard_streams.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace vixen {
namespace {

int g_output_error = 0;  // errno of the first write to standard output that failed; set by the main thread

}  // namespace

void prepare_standard_streams() {
  // open() takes the lowest free number: the one that was found closed.
  for (const int descriptor : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (fcntl(descriptor, F_GETFD) < 0 && errno == EBADF && open("/dev/null", O_RDWR) < 0) break;
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
}

void print_text(std::string_view text) {
  errno = 0;
  if (std::fwrite(text.data(), 1, text.size(), stdout) < text.size() && g_output_error == 0)
    g_output_error = errno != 0 ? errno : EIO;
}

void flush_output() {
  errno = 0;
  if (std::fflush(stdout) != 0 && g_output_error == 0) g_output_error = errno != 0 ? errno : EIO;
}

bool standard_error_is_terminal() {
  const char* kind = std::getenv("TERM");
  return isatty(STDERR_FILENO) != 0 && kind != nullptr && *kind != '\0' && std::strcmp(kind, "dumb") != 0;
}

int finish_standard_output(int exit_code, int failure_code, bool excerpts) {
  flush_output();
  if (g_output_error == 0 || exit_code != 0 || (excerpts && g_output_error == EPIPE)) return exit_code;
  std::fprintf(stderr, "vixen: standard output: %s: what this command prints did not arrive whole\n",
               std::strerror(g_output_error));
  return failure_code;
}

}  // namespace vixen

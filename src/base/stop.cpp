// The flag behind SIGUSR1 and SIGTERM.
#include "base/stop.hpp"

#include <csignal>

#include "base/check.hpp"

namespace vixen {
namespace {

volatile std::sig_atomic_t g_signal = 0;  // the only thing that a handler may touch

void remember(int signal) {
  g_signal = signal;
}

}  // namespace

void install_stop_handlers() {
  for (const int signal : {SIGUSR1, SIGTERM}) {
    struct sigaction action = {};
    action.sa_handler = remember;
    action.sa_flags = SA_RESTART;  // reads and writes under way go on: who can stop looks by himself
    sigemptyset(&action.sa_mask);
    VIXEN_CHECK(sigaction(signal, &action, nullptr) == 0, "sigaction({})", signal);
  }
}

int stop_requested() {
  return g_signal;
}

}  // namespace vixen

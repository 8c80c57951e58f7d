// Requests to stop: SIGUSR1 and SIGTERM set a flag, for work that can be saved and looks at it. Elsewhere they end the
// process, as they do by themselves.
#pragma once

namespace vixen {

/// Installs the handlers for SIGUSR1 and SIGTERM: when the work begins that stop_requested() is asked in.
void install_stop_handlers();
/// The signal that asked this process to stop, 0 if none. Ranks must agree on it through a collective before they act.
int stop_requested();

/// Thrown after everything has been saved on request: main exits with 75.
struct StoppedOnRequest {};

}  // namespace vixen

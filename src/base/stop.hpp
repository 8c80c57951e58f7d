// Requests to stop: SIGUSR1 and SIGTERM set a flag that the trainer reads between steps.
#pragma once

namespace vixen {

/// Installs the handlers for SIGUSR1 and SIGTERM. Call once, early in main.
void install_stop_handlers();
/// The signal that asked this process to stop, 0 if none. Ranks must agree on it through a collective before they act.
int stop_requested();

/// Thrown after everything has been saved on request: main exits with 75.
struct StoppedOnRequest {};

}  // namespace vixen

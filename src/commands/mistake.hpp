// How a user error reaches the terminal once, whatever the number of ranks that found it.
#pragma once

#include <string>

#include "comm/session.hpp"

namespace vixen {

/// Called by a rank that caught a UserError. An error that every rank found is printed once, by rank 0, and `exit_code`
/// is returned on all, so that the job exits cleanly. One that others did not find within the deadline of `control` (a
/// communicator for nothing else; null for one rank) takes the whole job down with that code: then it does not return.
int report_mistake(MpiSession& session, Communicator* control, const std::string& message, int exit_code);

/// Prints a message before there is a session. Rank 0 speaks first: a launcher then kills the others before they repeat
/// it; of tasks that nothing connects it speaks alone.
void print_early(const char* message);

}  // namespace vixen

// Printing a user's mistake once.
#include "commands/mistake.hpp"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <set>
#include <thread>

namespace vixen {

int report_mistake(MpiSession& session, Communicator* control, const std::string& message, int exit_code) {
  std::set<std::string> messages = {message};
  try {
    if (control != nullptr) {
      for (auto& other : control->all_gather_host(message)) messages.insert(std::move(other));
    }
  } catch (const CommError&) {
    session.abort(exit_code, message);
  }
  if (session.rank() == 0) {
    for (const auto& line : messages) std::fprintf(stderr, "vixen: %s\n", line.c_str());
  }
  return exit_code;
}

void print_early(const char* message) {
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID"}) {
    const char* rank = std::getenv(name);
    if (rank != nullptr && std::atoi(rank) > 0) {
      std::this_thread::sleep_for(std::chrono::seconds(1));
      break;
    }
  }
  std::fprintf(stderr, "vixen: %s\n", message);
}

}  // namespace vixen

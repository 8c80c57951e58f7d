// Printing a user's mistake once.
#include "commands/mistake.hpp"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <set>
#include <thread>

#include "base/log.hpp"
#include "base/stop.hpp"
#include "comm/launcher.hpp"

namespace vixen {

int report_mistake(MpiSession& session, Communicator* control, const std::string& message, int exit_code) {
  std::set<std::string> messages = {message};
  if (control != nullptr) {
    const auto level = spdlog::get_level();
    spdlog::set_level(spdlog::level::off);  // that the others do not answer is expected here, not news
    bool agreed = true;
    try {
      for (auto& other : control->all_gather_host(message)) messages.insert(std::move(other));
    } catch (const CommError&) {
      agreed = false;
    }
    spdlog::set_level(level);
    if (!agreed) session.abort(exit_code, message, Fault::kMistake);
  }
  if (session.rank() == 0) {
    for (const auto& line : messages) std::fprintf(stderr, "vixen: %s\n", line.c_str());
  }
  return exit_code;
}

void print_early(const char* message) {
  int rank = 0;
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID"}) {
    if (const char* value = std::getenv(name)) {
      rank = std::atoi(value);
      break;
    }
  }
  if (rank > 0) {
    // Tasks of a step that nothing connects all end here, and for one reason.
    if (!has_launcher(process_environment) && launched_processes(process_environment) > 1) return;
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(3);
    while (std::chrono::steady_clock::now() < end) {
      if (stop_requested() != 0) return;  // rank 0 has said it, and the launcher ends the rest
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
  }
  std::fprintf(stderr, "vixen: %s\n", message);
}

}  // namespace vixen

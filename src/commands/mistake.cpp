// Printing a user's mistake once.
#include "commands/mistake.hpp"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <set>
#include <thread>

#include "base/log.hpp"

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
    if (!agreed) session.abort(exit_code, message);
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
      std::this_thread::sleep_for(std::chrono::seconds(3));
      break;
    }
  }
  std::fprintf(stderr, "vixen: %s\n", message);
}

}  // namespace vixen

// A job of which one rank goes wrong at a step: for tests of how jobs end. Usage: mpi_faulty_job FAULT RANK STEP
// DEADLINE [cuda]
//
// FAULT: kill (SIGKILL), stop (SIGSTOP: alive, silent), throw (an exception), leave (skips a collective), none. With
// cuda, tensors are on GPUs, and there are two more, where the rank comes to no more collectives: busy (the others
// start one, then never come back to their communicator) and unseen (they start one, then end as if all were well).
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <thread>

#include "base/check.hpp"
#include "base/log.hpp"
#include "comm/communicator.hpp"
#include "comm/session.hpp"

namespace {

int run(int argc, char** argv) {
  using namespace vixen;
  MpiSession session(&argc, &argv);
  init_log(session.rank(), session.world_size(), LogLevel::kInfo);
  const bool cuda = argc == 6 && std::string(argv[5]) == "cuda";
  if (argc != 5 && !cuda) session.abort(2, "usage: mpi_faulty_job FAULT RANK STEP DEADLINE [cuda]");
  const std::string fault = argv[1];
  const int faulty_rank = std::atoi(argv[2]), faulty_step = std::atoi(argv[3]);
  try {
    const auto comm = session.make_communicator(cuda ? DeviceKind::kCuda : DeviceKind::kCpu, std::atof(argv[4]));
    for (int step = 0; step < faulty_step + 20; ++step) {
      const at::Tensor values = at::ones({100000}).to(comm->device());
      if (step == faulty_step && comm->rank() == faulty_rank) {
        std::fprintf(stderr, "rank %d: %s at step %d\n", comm->rank(), fault.c_str(), step);
        if (fault == "kill") std::raise(SIGKILL);
        if (fault == "stop") std::raise(SIGSTOP);
        if (fault == "throw") throw std::runtime_error("step " + std::to_string(step) + ": no space left on device");
        if (fault == "leave") continue;
        if (fault == "busy" || fault == "unseen") std::this_thread::sleep_for(std::chrono::minutes(1));
      }
      comm->all_reduce_sum(values);
      if (step == faulty_step && fault == "busy") std::this_thread::sleep_for(std::chrono::minutes(1));
      if (step == faulty_step && fault == "unseen") {
        std::this_thread::sleep_for(std::chrono::duration<double>(2 * std::atof(argv[4])));
        return 0;
      }
      if (values.cpu()[0].item<float>() != static_cast<float>(comm->world_size())) session.abort(3, "a wrong sum");
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    comm->barrier();
    if (comm->rank() == 0) std::puts("finished");
  } catch (const std::exception& error) {
    session.abort(1, error.what());
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const vixen::UserError& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  }
}

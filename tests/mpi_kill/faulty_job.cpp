// A job of which one rank goes wrong at a step: for tests of how jobs end. Usage: mpi_faulty_job FAULT RANK STEP
// DEADLINE [cuda] [watched]
//
// FAULT: kill (SIGKILL), stop (SIGSTOP: alive, silent), throw (an exception), leave (skips a collective), file and
// long-file (two and five deadlines at a file; with watched, a deadline is three times as long meanwhile), at-work (a
// minute), none. watched: the ranks watch one another. With cuda, tensors are on GPUs, and there are two more, where
// the rank comes to no more collectives: busy (the others start one, then never come back to their communicator) and
// unseen (they start one, then end as if all were well).
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <thread>

#include "base/activity.hpp"
#include "base/check.hpp"
#include "base/log.hpp"
#include "base/stop.hpp"
#include "comm/communicator.hpp"
#include "comm/session.hpp"

namespace {

int run(int argc, char** argv) {
  using namespace vixen;
  MpiSession session(&argc, &argv);
  init_log(session.rank(), session.world_size(), LogLevel::kInfo);
  if (argc < 5) session.abort(2, "usage: mpi_faulty_job FAULT RANK STEP DEADLINE [cuda] [watched]", Fault::kMistake);
  const auto wished = [&](const char* word) {
    return std::any_of(argv + 5, argv + argc, [&](const char* given) { return std::string(given) == word; });
  };
  const bool cuda = wished("cuda");
  const std::string fault = argv[1];
  const int faulty_rank = std::atoi(argv[2]), faulty_step = std::atoi(argv[3]);
  const double deadline = std::atof(argv[4]);
  if (wished("watched")) install_stop_handlers();  // as in training: mpirun's SIGTERM is no end
  if (wished("watched")) session.watch_ranks(deadline, 3 * deadline);
  const Patience patience = wished("watched") ? session.patience() : Patience(deadline);
  try {
    const auto comm = session.make_communicator(cuda ? DeviceKind::kCuda : DeviceKind::kCpu, patience);
    for (int step = 0; step < faulty_step + 20; ++step) {
      set_activity_step(step);
      const at::Tensor values = at::ones({100000}).to(comm->device());
      if (step == faulty_step && comm->rank() == faulty_rank) {
        std::fprintf(stderr, "rank %d: %s at step %d\n", comm->rank(), fault.c_str(), step);
        if (fault == "kill") std::raise(SIGKILL);
        if (fault == "stop") std::raise(SIGSTOP);
        if (fault == "throw") throw std::runtime_error("step " + std::to_string(step) + ": no space left on device");
        if (fault == "leave") continue;
        if (fault == "file" || fault == "long-file") {
          const AtFile at_file("/scratch/slow.h5");
          std::this_thread::sleep_for(std::chrono::duration<double>((fault == "file" ? 2 : 5) * deadline));
        }
        if (fault == "at-work") {
          const Doing doing("encode labels");
          std::this_thread::sleep_for(std::chrono::minutes(1));
        }
        if (fault == "busy" || fault == "unseen") std::this_thread::sleep_for(std::chrono::minutes(1));
      }
      comm->all_reduce_sum(values);
      if (step == faulty_step && fault == "busy") std::this_thread::sleep_for(std::chrono::minutes(1));
      if (step == faulty_step && fault == "unseen") {
        std::this_thread::sleep_for(std::chrono::duration<double>(2 * deadline));
        return 0;
      }
      const bool right = values.cpu()[0].item<float>() == static_cast<float>(comm->world_size());
      if (!right) comm->all_reduce_sum(values);  // throws where the sum failed
      if (!right) session.abort(3, "a wrong sum", Fault::kOwn);
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    comm->barrier();
    if (comm->rank() == 0) std::puts("finished");
  } catch (const CommError& error) {
    session.abort(1, error.what(), Fault::kCollective);
  } catch (const std::exception& error) {
    session.abort(1, error.what(), Fault::kOwn);
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

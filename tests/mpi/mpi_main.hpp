// main() of an MPI test on CPUs. Include it in exactly one file of an executable.
#pragma once

#include <ATen/Parallel.h>

#include "commands/numerics.hpp"
#include "mpi/rank_tests.hpp"

int main(int argc, char** argv) {
  return vixen::test::run_all(argc, argv, [](const vixen::MpiSession& job) {
    vixen::set_numerics(vixen::Config{}, job.local_rank(), at::get_num_threads());
  });
}

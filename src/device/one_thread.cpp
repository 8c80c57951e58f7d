#include "device/one_thread.hpp"

#include <ATen/Parallel.h>
#include <omp.h>

namespace vixen {

void keep_to_one_thread() {
  // ATen sets up each thread once, on first use, from a process-wide count; later that would undo our setting. And
  // at::set_num_threads would change the process-wide count itself. The OpenMP count below belongs to this thread only.
  at::get_num_threads();
  omp_set_num_threads(1);
}

}  // namespace vixen

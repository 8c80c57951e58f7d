// MPI is initialised for one thread at a time (MPI_THREAD_SERIALIZED): whoever calls it holds this lock. For files of
// this folder only.
#pragma once

#include <mutex>

namespace vixen {

inline std::recursive_timed_mutex& mpi_mutex() {
  static std::recursive_timed_mutex& mutex = *new std::recursive_timed_mutex;  // threads may outlive what is static
  return mutex;
}

}  // namespace vixen

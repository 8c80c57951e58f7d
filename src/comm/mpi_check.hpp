// MPI return codes as exceptions, and the name of this process in messages. For files of this folder only.
#pragma once

#include <fmt/format.h>

#include <string>

#include "comm/communicator.hpp"
#include "comm/mpi_c.hpp"
#include "comm/mpi_lock.hpp"

namespace vixen {

/// "rank 1 of 4 on node7": who speaks in an error message.
std::string process_name();

/// Throws CommError naming the call, this process and MPI's own words when `code` is not MPI_SUCCESS. Works only where
/// MPI_ERRORS_RETURN is set: under the default handler MPI aborts the process before the code is returned.
void mpi_check(int code, const char* call);

/// The call under MPI's lock.
#define VIXEN_MPI(call)                                       \
  ::vixen::mpi_check(                                         \
      [&] {                                                   \
        const std::lock_guard mpi_lock(::vixen::mpi_mutex()); \
        return (call);                                        \
      }(),                                                    \
      #call)

}  // namespace vixen

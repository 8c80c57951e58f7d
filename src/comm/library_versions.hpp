// The communication libraries of this process.
#pragma once

#include <string>

namespace vixen {

/// "Open MPI v4.1.4". Needs no MPI_Init.
std::string mpi_library();

struct LibraryVersions {
  std::string compiled;  // of the headers; empty: the build has no such library
  std::string loaded;
};
LibraryVersions nccl_versions();

}  // namespace vixen

// MPI return codes as exceptions.
#include "comm/mpi_check.hpp"

#include <string_view>

namespace vixen {

std::string process_name() {
  int rank = 0, size = 1, length = 0;
  char host[MPI_MAX_PROCESSOR_NAME] = "?";
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  MPI_Get_processor_name(host, &length);
  return fmt::format("rank {} of {} on {}", rank, size, host);
}

void mpi_check(int code, const char* call) {
  if (code == MPI_SUCCESS) [[likely]]
    return;
  char text[MPI_MAX_ERROR_STRING] = "unknown error";
  int length = 0;
  MPI_Error_string(code, text, &length);
  const std::string_view whole(call);
  throw CommError(fmt::format("{}: {} failed: {}", process_name(), whole.substr(0, whole.find('(')), text));
}

}  // namespace vixen

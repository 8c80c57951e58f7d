// The NCCL communicator of two ranks on one GPU: the contract of all communicators, over the real library.
//
// NCCL refuses two ranks that have one GPU, by the host and the place on its bus; it believes a host's name that it is
// given. What the ranks then do to each other goes through sockets: right, and slow.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>

#include "comm/mpi_communicator.hpp"
#include "comm/nccl_communicator.hpp"
#include "device/device.hpp"
#include "mpi/communicator_contract.hpp"
#include "mpi/rank_tests.hpp"

namespace vixen {

std::unique_ptr<Communicator> test::make_tested_communicator() {
  return make_nccl_communicator(make_mpi_communicator(kDeadlineSeconds), /*gpu=*/0, kDeadlineSeconds);
}

int64_t test::tested_piece_elements() {
  return int64_t{1} << 20;
}

}  // namespace vixen

int main(int argc, char** argv) {
  if (vixen::gpu_count() == 0) {
    std::puts("[  SKIPPED ] no GPU");
    return 0;
  }
  return vixen::test::run_all(argc, argv, [](const vixen::MpiSession& job) {
    ::setenv("NCCL_HOSTID", fmt::format("rank{}", job.rank()).c_str(), /*overwrite=*/1);
    ::setenv("NCCL_SOCKET_IFNAME", "lo", /*overwrite=*/1);
    ::setenv("NCCL_IB_DISABLE", "1", /*overwrite=*/1);
    ::setenv("NCCL_MAX_CTAS", "2", /*overwrite=*/1);
    ::setenv("NCCL_NVLS_ENABLE", "0", /*overwrite=*/1);
    vixen::set_threads(1);
    vixen::select_device(vixen::DeviceKind::kCuda, /*local_rank=*/0);
  });
}

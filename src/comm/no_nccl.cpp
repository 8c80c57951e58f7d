// A build without CUDA: there is no NCCL communicator.
#include "base/check.hpp"
#include "comm/library_versions.hpp"
#include "comm/nccl_communicator.hpp"

namespace vixen {

std::unique_ptr<Communicator> make_nccl_communicator(std::unique_ptr<Communicator> /*host*/, int /*gpu*/,
                                                     const Patience& /*patience*/) {
  fail_user("device = cuda: this build has no CUDA; configure with -DVIXEN_CUDA=ON or use device = cpu");
}

LibraryVersions nccl_versions() {
  return {};
}

}  // namespace vixen

// A build without CUDA has none of its kernels.
#include "search/device_table.hpp"

namespace vixen {

const SearchTable& cuda_search_kernels() {
  static constexpr SearchTable kNone{};
  return kNone;
}

}  // namespace vixen

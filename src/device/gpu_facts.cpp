#include "device/gpu_facts.hpp"

namespace vixen {

int gpu_of_rank(int local_rank, int gpus) {
  return gpus == 1 ? 0 : local_rank;
}

}  // namespace vixen

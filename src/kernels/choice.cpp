// The kernel choices of this process.
#include "kernels/choice.hpp"

namespace vixen {
namespace {

KernelChoices& mutable_choices() {
  static KernelChoices choices;
  return choices;
}

}  // namespace

void set_kernel_choices(const KernelChoices& choices) {
  mutable_choices() = choices;
}
const KernelChoices& kernel_choices() {
  return mutable_choices();
}

}  // namespace vixen

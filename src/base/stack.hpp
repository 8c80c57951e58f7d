// Stacks that numerical libraries can work on, whatever `ulimit -s` says.
#pragma once

#include <functional>

namespace vixen {

/// Calls body and returns its result. Where the limit on stacks is below 8 MiB, body runs on a thread with that much,
/// and all threads started from then on (OpenMP's too) get as much: matrix kernels keep blocks of hundreds of KiB
/// there. body must not throw.
int run_with_enough_stack(const std::function<int()>& body);

}  // namespace vixen

// What a thread behind the step does first.
#pragma once

namespace vixen {

/// Makes the calling thread run OpenMP regions and ATen loops alone: who works behind a step must not take cores from
/// it. Other threads keep their settings.
void keep_to_one_thread();

}  // namespace vixen

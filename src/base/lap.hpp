// Seconds by the steady clock: lap by lap, in all, and of the fastest of several calls.
#pragma once

#include <algorithm>
#include <chrono>
#include <limits>

namespace vixen {

/// A stopwatch that runs from its making.
class Lap {
 public:
  /// Seconds since the last lap, or since the making.
  double next() {
    const auto now = Clock::now();
    const double seconds = std::chrono::duration<double>(now - last_).count();
    last_ = now;
    return seconds;
  }
  /// The same, added to a phase's seconds.
  void operator()(double& seconds) { seconds += next(); }
  /// Seconds since the making, whatever laps were taken.
  double total() const { return std::chrono::duration<double>(Clock::now() - begin_).count(); }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point begin_ = Clock::now(), last_ = begin_;
};

/// Seconds of the fastest of `repeats` calls of work(): what others on the machine add is not the work's.
template <typename Work>
double fastest_seconds(int repeats, Work&& work) {
  double fastest = std::numeric_limits<double>::infinity();
  for (int repeat = 0; repeat < repeats; ++repeat) {
    const Lap lap;
    work();
    fastest = std::min(fastest, lap.total());
  }
  return fastest;
}

}  // namespace vixen

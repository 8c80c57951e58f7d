// The stopwatch: laps add up to the total, and the fastest call is the one that counts.
#include "base/lap.hpp"

#include <gtest/gtest.h>

#include <thread>

namespace vixen {
namespace {

using namespace std::chrono_literals;

TEST(Lap, LapsAreDisjointAndAddUp) {
  Lap lap;
  std::this_thread::sleep_for(20ms);
  double phase = 1.0;
  lap(phase);
  EXPECT_GE(phase, 1.02);
  std::this_thread::sleep_for(10ms);
  const double second = lap.next();
  EXPECT_GE(second, 0.01);
  const double total = lap.total();
  EXPECT_GE(total, phase - 1.0 + second);
  EXPECT_GE(lap.next(), 0.0);
  EXPECT_GE(lap.total(), total) << "a lap does not begin the total anew";
}

TEST(Lap, TheFastestCallCounts) {
  int calls = 0;
  const double fastest = fastest_seconds(3, [&] { std::this_thread::sleep_for(++calls == 2 ? 5ms : 200ms); });
  EXPECT_EQ(calls, 3);
  EXPECT_GE(fastest, 0.005);
  EXPECT_LT(fastest, 0.2);
}

}  // namespace
}  // namespace vixen

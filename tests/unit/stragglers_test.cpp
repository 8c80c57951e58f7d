// The report of slow ranks: named after three looks, once, and only when slow.
#include "train/stragglers.hpp"

#include <gtest/gtest.h>

namespace vixen {
namespace {

std::optional<std::string> look(StragglerWatch& watch, std::vector<double> seconds) {
  return watch.look(seconds, 7);
}

TEST(StragglerWatch, ASlowRankIsNamedOnceWithItsHost) {
  StragglerWatch watch({"a", "a", "b", "b"});
  EXPECT_FALSE(look(watch, {1, 1, 1, 1.5}));
  EXPECT_FALSE(look(watch, {1, 1.1, 1, 1.4}));
  const auto said = look(watch, {1, 1, 0.9, 2.5});
  ASSERT_TRUE(said);
  EXPECT_NE(said->find("step 7: rank 3 on b takes 2.5 s for its part of a step, the median rank 1 s (2.5 times"),
            std::string::npos)
      << *said;
  EXPECT_FALSE(look(watch, {1, 1, 1, 2.5})) << "once";
  EXPECT_FALSE(look(watch, {1, 1, 1, 1})) << "it keeps up";
  look(watch, {1, 1, 1, 2});
  look(watch, {1, 1, 1, 2});
  EXPECT_TRUE(look(watch, {1, 1, 1, 2})) << "slow again";
}

TEST(StragglerWatch, OneSlowStepOrAnotherRankIsNone) {
  StragglerWatch watch({"a", "b", "c"});
  for (int i = 0; i < 4; ++i) {
    EXPECT_FALSE(look(watch, {1, 2, 1}));
    EXPECT_FALSE(look(watch, {1, 1, 2}));
  }
  for (int i = 0; i < 5; ++i) EXPECT_FALSE(look(watch, {1, 1.29, 1}));
}

TEST(StragglerWatch, OfTwoRanksTheFasterIsTheMeasure) {
  StragglerWatch watch({"a", "b"});
  look(watch, {2, 1});
  look(watch, {2, 1});
  EXPECT_TRUE(look(watch, {2, 1}));
  StragglerWatch alone({"a"});
  for (int i = 0; i < 5; ++i) EXPECT_FALSE(look(alone, {3}));
}

}  // namespace
}  // namespace vixen

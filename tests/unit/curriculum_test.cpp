// From soft to hard negatives over the first steps.
#include "objective/curriculum.hpp"

#include <gtest/gtest.h>

#include <cmath>

namespace vixen {
namespace {

TEST(Curriculum, IsOffUnlessAskedFor) {
  const LossConfig config;
  for (const int64_t step : {0, 1, 1000}) {
    EXPECT_EQ(loss_at(config, step, 300).negatives, config.negatives);
    EXPECT_EQ(loss_at(config, step, 300).temperature, config.temperature);
  }
  EXPECT_EQ(widest_loss(config, 300).negatives, config.negatives);
}

TEST(Curriculum, GoesFromSoftToHardEvenlyInTheLogarithm) {
  LossConfig config;
  config.soft_steps = 100;
  config.soft_negatives = 160;
  config.soft_temperature = 0.4;
  EXPECT_EQ(loss_at(config, 0, 300).negatives, 160);
  EXPECT_DOUBLE_EQ(loss_at(config, 0, 300).temperature, 0.4);
  EXPECT_EQ(loss_at(config, 50, 300).negatives, 40);  // sqrt(160 x 10)
  EXPECT_NEAR(loss_at(config, 50, 300).temperature, 0.2, 1e-12);
  EXPECT_EQ(loss_at(config, 100, 300).negatives, config.negatives);
  EXPECT_EQ(loss_at(config, 100, 300).temperature, config.temperature);
  for (int64_t step = 1; step <= 100; ++step) {
    EXPECT_LE(loss_at(config, step, 300).negatives, loss_at(config, step - 1, 300).negatives) << step;
    EXPECT_LT(loss_at(config, step, 300).temperature, loss_at(config, step - 1, 300).temperature) << step;
  }
  EXPECT_EQ(loss_at(config, 7, 300).margin_max, config.margin_max) << "the rest stays";
  EXPECT_EQ(widest_loss(config, 300).negatives, 160);
  config.soft_negatives = 4;  // the other way round is as good
  EXPECT_EQ(loss_at(config, 0, 300).negatives, 4);
  EXPECT_EQ(widest_loss(config, 300).negatives, 10);
  config.soft_negatives = 0;  // all that a batch has
  EXPECT_EQ(loss_at(config, 0, 300).negatives, 300);
  EXPECT_EQ(loss_at(config, 50, 4000).negatives, 200);
  EXPECT_EQ(widest_loss(config, 300).negatives, 300);
}

}  // namespace
}  // namespace vixen

// Settings of tests that mine.
#pragma once

#include "mpi/trainer_fixture.hpp"

namespace vixen::test {

class MiningFixture : public TrainerFixture {
 protected:
  static Config mining_config(const std::string& run = {}) {
    auto settings = config(run);
    settings.mining.columns = 60;
    settings.mining.depth = 16;
    return settings;
  }
};

}  // namespace vixen::test

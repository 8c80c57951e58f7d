// A rank that is slower than the others at the same work makes all of them wait: which one, and by how much.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace vixen {

/// Looks once a log interval at how long each rank was busy with a step of its own, without waiting for others.
class StragglerWatch {
 public:
  static constexpr double kSlow = 1.3;  // times the median
  static constexpr int kLooks = 3;      // in a row: work is not quite the same on all ranks, nor in all steps

  /// hosts [W]: of the ranks.
  explicit StragglerWatch(std::vector<std::string> hosts) : hosts_(std::move(hosts)) {}

  /// seconds [W] of a step at `step`. What to warn of: a rank that was slow, the same in kLooks looks; once a rank, and
  /// again when it has kept up in between.
  std::optional<std::string> look(std::span<const double> seconds, int64_t step);

 private:
  std::vector<std::string> hosts_;
  int64_t slowest_ = -1;
  int looks_ = 0;
};

}  // namespace vixen

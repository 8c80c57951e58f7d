// Says when something that happens again and again is worth a word.
#pragma once

#include <optional>

#include "base/lap.hpp"

namespace vixen {

class NowAndThen {
 public:
  explicit NowAndThen(double seconds) : seconds_(seconds) {}

  /// True at first, and then when so many seconds have passed since it was last true.
  bool due() {
    if (said_ && said_->total() < seconds_) return false;
    said_.emplace();
    return true;
  }
  /// It is over: the next time is the first again.
  void reset() { said_.reset(); }

 private:
  double seconds_;
  std::optional<Lap> said_;
};

}  // namespace vixen

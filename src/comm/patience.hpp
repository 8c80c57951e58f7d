// How long a collective waits for the other ranks.
#pragma once

#include <algorithm>
#include <atomic>

namespace vixen {

struct Patience {
  /// Seconds without progress.
  Patience(double of_collectives) : seconds(of_collectives) {}  // NOLINT(google-explicit-constructor)
  Patience(double of_collectives, double of_files, const std::atomic<bool>* waits)
      : seconds(of_collectives), file_seconds(of_files), file_waits(waits) {}

  double seconds;
  double file_seconds = 0;                        // while some rank waits for a file
  const std::atomic<bool>* file_waits = nullptr;  // whether one does; null: nobody knows

  /// What holds now.
  double limit() const { return file_waits != nullptr && *file_waits ? std::max(seconds, file_seconds) : seconds; }
};

}  // namespace vixen

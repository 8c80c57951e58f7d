// A progress bar with rate and time left on a terminal, plain lines every few seconds elsewhere.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace vixen {

/// Shows how far a loop is. Nothing is printed for work that ends within two seconds. Only the process whose
/// `enabled` is true prints (rank 0). Not thread-safe.
class Progress {
 public:
  /// label: "encode labels"; unit: "labels"; total: units of work.
  Progress(std::string label, std::string unit, int64_t total, bool enabled);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void advance(int64_t units);
  /// A short text shown behind the bar: "loss 0.231".
  void note(std::string text);
  /// Prints the last state and ends the line. Called by the destructor too.
  void finish();

 private:
  void draw(bool last);

  std::string label_, unit_, note_;
  int64_t total_;
  int64_t done_ = 0;
  bool enabled_;
  bool terminal_ = false;
  bool shown_ = false;
  bool finished_ = false;
  std::chrono::steady_clock::time_point start_, last_draw_;
};

}  // namespace vixen

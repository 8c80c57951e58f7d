// A progress bar with rate and time left on a terminal, plain lines every few seconds elsewhere; and for work that
// counts nothing, what it is and for how long it has run.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "base/activity.hpp"

namespace vixen {

/// What one line of a progress display says; a plain value, so that the text can be tested.
struct ProgressState {
  std::string label, unit, note;
  int64_t done = 0;
  int64_t total = 0;
  double seconds = 0;  // since the start
};

/// How the line is drawn.
struct ProgressStyle {
  int width = 80;   // columns of the terminal; a bar line never takes more
  bool bar = true;  // false: one plain line of any length
  bool colours = false;
  bool unicode = false;
};

/// "encode labels  ━━━━━━──────  1,024/17,278 labels   6%  143/s  1:53 left  loss 0.231". No line end.
std::string progress_text(const ProgressState& state, const ProgressStyle& style);

/// Shows how far a loop is, on stderr. Nothing is printed for work of less than two seconds. Only the process whose
/// `enabled` is true prints (rank 0). Not thread-safe. The bar is drawn when stderr is a terminal that TERM names;
/// behind mpirun, which hands its ranks a pipe, a launcher that has a terminal says so with VIXEN_PROGRESS=bar (bar |
/// plain | off).
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
  /// Prints the last state and a line feed. Called by the destructor too.
  void finish();

 private:
  void draw(bool last);

  ProgressState state_;
  Doing doing_;
  bool enabled_;
  bool terminal_ = false;
  bool shown_ = false;
  bool finished_ = false;
  std::chrono::steady_clock::time_point start_, last_draw_;
};

/// Whether the stages of this process are shown: main says so on rank 0. Not shown until then.
void show_stages(bool shown);

/// "load weights  0:12", over: "load weights: done in 0:14". No line end.
std::string stage_text(const std::string& label, double seconds, bool over);

/// Says on stderr, from a thread of its own, what goes on within its scope: "load weights  0:12". Nothing is printed
/// for work of less than two seconds. Of stages within one another the outermost is shown. VIXEN_PROGRESS as for
/// Progress.
class Stage {
 public:
  explicit Stage(std::string label);
  ~Stage();
  Stage(const Stage&) = delete;
  Stage& operator=(const Stage&) = delete;

 private:
  class Ticker;
  Doing doing_;
  std::unique_ptr<Ticker> ticker_;  // null: not shown
};

}  // namespace vixen

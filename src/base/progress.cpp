// Drawing and pacing of progress displays.
#include "base/progress.hpp"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cmath>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string_view>
#include <thread>
#include <utility>

#include "base/standard_streams.hpp"
#include "base/text.hpp"

namespace vixen {
namespace {

using Clock = std::chrono::steady_clock;
constexpr double kSilentSeconds = 2;         // work shorter than this shows nothing
constexpr double kBarSeconds = 0.1;          // between two drawings of a bar
constexpr double kPlainSeconds = 10;         // between two plain lines
constexpr int kMostBar = 30, kLeastBar = 8;  // columns

double seconds_between(Clock::time_point a, Clock::time_point b) {
  return std::chrono::duration<double>(b - a).count();
}

std::string_view environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string_view() : std::string_view(value);
}

bool locale_is_utf8() {
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const auto value = environment(name);
    if (!value.empty()) return value.find("UTF-8") != value.npos || value.find("utf8") != value.npos;
  }
  return false;
}

int terminal_width() {
  winsize size = {};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  // A terminal may not know its width (0); what COLUMNS holds is anyone's.
  const auto text = environment("COLUMNS");
  int columns = 0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), columns);
  return read.ec == std::errc() && columns > 0 ? columns : 80;
}

std::string duration(double seconds) {
  const auto whole = static_cast<int64_t>(std::llround(std::max(0.0, seconds)));
  if (whole >= 3600) return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
  return fmt::format("{}:{:02}", whole / 60, whole % 60);
}

std::string rate_text(double rate) {
  return rate >= 100 ? fmt::format("{}/s", with_commas(std::llround(rate))) : fmt::format("{:.3g}/s", rate);
}

std::string repeat(std::string_view piece, int times) {
  std::string text;
  for (int i = 0; i < times; ++i) text += piece;
  return text;
}

}  // namespace

std::string progress_text(const ProgressState& state, const ProgressStyle& style) {
  const double share =
      state.total > 0 ? std::clamp(static_cast<double>(state.done) / static_cast<double>(state.total), 0.0, 1.0) : 1.0;
  const double rate = state.seconds > 0 ? static_cast<double>(state.done) / state.seconds : 0;
  const bool over = state.done >= state.total;
  std::string time = duration(state.seconds);
  if (!over) time = rate > 0 ? duration(static_cast<double>(state.total - state.done) / rate) + " left" : "? left";
  std::string tail = fmt::format("{}/{} {} {:3.0f}% {} {}", with_commas(state.done), with_commas(state.total),
                                 state.unit, std::floor(share * 100), rate_text(rate), time);
  if (!style.bar) return fmt::format("{}: {}{}{}", state.label, tail, state.note.empty() ? "" : " ", state.note);

  // On a narrow terminal the note goes first, then the bar, then the end of the line: wrapping would leave debris.
  const int columns = style.width - 1;
  std::string head = state.label + " ";
  int room = columns - static_cast<int>(head.size() + tail.size()) - 1;
  const int note_size = state.note.empty() ? 0 : static_cast<int>(state.note.size()) + 1;
  const bool note = note_size > 0 && room - note_size >= kLeastBar;
  if (note) room -= note_size;
  std::string bar;
  if (room >= kLeastBar) {
    const int size = std::min(room, kMostBar);
    const int full = static_cast<int>(share * size);
    bar = repeat(style.unicode ? "━" : "=", full);
    if (style.colours) bar = "\033[32m" + bar + "\033[0m";
    bar += repeat(style.unicode ? "─" : "-", size - full) + " ";
  } else {
    const size_t most = static_cast<size_t>(std::max(0, columns - static_cast<int>(head.size())));
    tail.resize(std::min(tail.size(), most));
    head.resize(std::min(head.size(), static_cast<size_t>(std::max(0, columns))));
  }
  return head + bar + tail + (note ? " " + state.note : "");
}

namespace {

/// Whether a bar is drawn rather than lines.
bool draws_bar() {
  const auto wish = environment("VIXEN_PROGRESS");
  return wish == "bar" || (wish != "plain" && standard_error_is_terminal());
}

void print_error(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
}

std::atomic<bool> g_stages_shown{false};
std::atomic<bool> g_stage_runs{false};

}  // namespace

Progress::Progress(std::string label, std::string unit, int64_t total, bool enabled)
    : state_{std::move(label), std::move(unit), "", 0, total, 0},
      doing_(state_.label),
      enabled_(enabled),
      start_(Clock::now()),
      last_draw_(start_) {
  if (environment("VIXEN_PROGRESS") == "off") enabled_ = false;
  terminal_ = draws_bar();
}

Progress::~Progress() {
  finish();
}

void Progress::advance(int64_t units) {
  state_.done += units;
  if (enabled_ && !finished_) draw(false);
}

void Progress::note(std::string text) {
  state_.note = std::move(text);
}

void Progress::finish() {
  if (std::exchange(finished_, true) || !enabled_) return;
  draw(true);
}

void Progress::draw(bool last) {
  const auto now = Clock::now();
  state_.seconds = seconds_between(start_, now);
  if (state_.seconds < kSilentSeconds) return;
  if (!last && (terminal_ ? shown_ && seconds_between(last_draw_, now) < kBarSeconds
                          : seconds_between(last_draw_, now) < kPlainSeconds)) {
    return;
  }
  last_draw_ = now;
  shown_ = true;
  ProgressStyle style;
  style.bar = terminal_;
  std::string text;
  if (terminal_) {
    style.width = terminal_width();
    style.colours = std::getenv("NO_COLOR") == nullptr;
    style.unicode = locale_is_utf8();
    // The cursor goes back to the start of the line, so that a log message overwrites the bar instead of following it.
    text = "\r" + progress_text(state_, style) + "\033[K" + (last ? "\n" : "\r");
  } else {
    text = progress_text(state_, style) + "\n";
  }
  print_error(text);
}

void show_stages(bool shown) {
  g_stages_shown = shown;
}

std::string stage_text(const std::string& label, double seconds, bool over) {
  return fmt::format("{}{}{}", label, over ? ": done in " : "  ", duration(seconds));
}

class Stage::Ticker {
 public:
  explicit Ticker(std::string label) : label_(std::move(label)), bar_(draws_bar()), thread_([this] { tick(); }) {}
  ~Ticker() {
    {
      const std::lock_guard lock(mutex_);
      over_ = true;
    }
    wake_.notify_all();
    thread_.join();
    g_stage_runs = false;
  }

 private:
  void tick() {
    const auto seconds = [](double value) {
      return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(value));
    };
    std::unique_lock lock(mutex_);
    auto next = start_ + seconds(kSilentSeconds);
    while (!wake_.wait_until(lock, next, [this] { return over_; })) {
      draw(false);
      next += seconds(bar_ ? 1 : kPlainSeconds);
    }
    if (shown_) draw(true);
  }

  void draw(bool last) {
    shown_ = true;
    const std::string text = stage_text(label_, seconds_between(start_, Clock::now()), last);
    // As a bar: a log message overwrites the line.
    print_error(bar_ ? "\r" + text + "\033[K" + (last ? "\n" : "\r") : text + "\n");
  }

  std::string label_;
  bool bar_;
  bool shown_ = false, over_ = false;
  Clock::time_point start_ = Clock::now();
  std::mutex mutex_;
  std::condition_variable wake_;
  std::thread thread_;  // last: it reads the others
};

Stage::Stage(std::string label) : doing_(label) {
  if (!g_stages_shown || environment("VIXEN_PROGRESS") == "off" || g_stage_runs.exchange(true)) return;
  ticker_ = std::make_unique<Ticker>(std::move(label));
}

Stage::~Stage() = default;

}  // namespace vixen

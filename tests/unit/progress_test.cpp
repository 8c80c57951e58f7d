// What progress displays say, that a bar fits its terminal, and that short work shows nothing.
#include "base/progress.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <thread>

namespace vixen {
namespace {

ProgressState halfway() {
  return {"encode labels", "labels", "", 8'000, 16'000, 40};
}

ProgressStyle plain() {
  ProgressStyle style;
  style.bar = false;
  return style;
}

ProgressStyle bar(int width) {
  ProgressStyle style;
  style.width = width;
  return style;
}

TEST(ProgressText, SaysShareRateAndTimeLeft) {
  EXPECT_EQ(progress_text(halfway(), plain()), "encode labels: 8,000/16,000 labels  50% 200/s 0:40 left");
  auto state = halfway();
  state.note = "loss 0.231";
  EXPECT_EQ(progress_text(state, plain()), "encode labels: 8,000/16,000 labels  50% 200/s 0:40 left loss 0.231");
}

TEST(ProgressText, SaysTheWholeTimeAtTheEnd) {
  auto state = halfway();
  state.done = 16'000;
  state.seconds = 3'725;
  EXPECT_EQ(progress_text(state, plain()), "encode labels: 16,000/16,000 labels 100% 4.3/s 1:02:05");
}

TEST(ProgressText, IsNever100PercentBeforeTheEnd) {
  auto state = halfway();
  state.done = 15'999;
  EXPECT_NE(progress_text(state, plain()).find(" 99%"), std::string::npos);
}

TEST(ProgressText, KnowsNothingAtTheStartAndNothingToDo) {
  auto state = halfway();
  state.done = 0;
  EXPECT_NE(progress_text(state, plain()).find("? left"), std::string::npos);
  state.total = 0;
  EXPECT_NE(progress_text(state, plain()).find("100%"), std::string::npos);
}

TEST(ProgressText, ABarFitsEveryTerminal) {
  auto state = halfway();
  state.note = "loss 0.231, 5,301 queries/s";
  for (int width = 1; width <= 200; ++width) {
    EXPECT_LT(progress_text(state, bar(width)).size(), static_cast<size_t>(width)) << "width " << width;
  }
  EXPECT_NE(progress_text(state, bar(120)).find("====----"), std::string::npos);
  EXPECT_NE(progress_text(state, bar(120)).find("loss 0.231"), std::string::npos);
  EXPECT_EQ(progress_text(state, bar(80)).find("loss"), std::string::npos) << "the note goes before the bar does";
}

TEST(ProgressText, ColoursOnlyWhenAsked) {
  auto style = bar(100);
  EXPECT_EQ(progress_text(halfway(), style).find('\033'), std::string::npos);
  style.colours = true;
  EXPECT_NE(progress_text(halfway(), style).find("\033[32m"), std::string::npos);
}

TEST(Progress, ShortWorkShowsNothing) {
  testing::internal::CaptureStderr();
  {
    Progress progress("short", "rows", 10, true);
    for (int i = 0; i < 10; ++i) progress.advance(1);
  }
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST(Progress, LongWorkEndsWithOneLineWithoutATerminal) {
  unsetenv("VIXEN_PROGRESS");
  testing::internal::CaptureStderr();
  {
    Progress shown("train", "steps", 4, true), silent("train", "steps", 4, false);
    for (int i = 0; i < 4; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(520));
      shown.advance(1);
      silent.advance(1);
    }
    shown.finish();
    shown.finish();
  }
  const auto text = testing::internal::GetCapturedStderr();
  EXPECT_EQ(text.find("train: 4/4 steps 100% 1."), 0u) << text;
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
}

TEST(Progress, DrawsABarWhereALauncherSaysThereIsATerminal) {
  setenv("VIXEN_PROGRESS", "bar", 1);
  testing::internal::CaptureStderr();
  {
    Progress progress("train", "steps", 100, true);
    std::this_thread::sleep_for(std::chrono::milliseconds(2'050));
    for (int i = 0; i < 100; ++i) progress.advance(1);
  }
  unsetenv("VIXEN_PROGRESS");
  const auto text = testing::internal::GetCapturedStderr();
  EXPECT_EQ(text.front(), '\r');
  EXPECT_EQ(text.back(), '\n');
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1);
  EXPECT_LE(std::count(text.begin(), text.end(), 't') / 2, 6) << "drawn at most ten times a second: " << text;
}

TEST(Stage, LongWorkSaysWhatItIsAndShortWorkNothing) {
  EXPECT_EQ(stage_text("load weights", 12.3, false), "load weights  0:12");
  EXPECT_EQ(stage_text("load weights", 3674, true), "load weights: done in 1:01:14");
  unsetenv("VIXEN_PROGRESS");
  testing::internal::CaptureStderr();
  { const Stage stage("before main asks for it"); }
  show_stages(true);
  { const Stage stage("short"); }
  {
    const Stage stage("long");
    const Stage inner("within");
    std::this_thread::sleep_for(std::chrono::milliseconds(2'100));
  }
  show_stages(false);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "long  0:02\nlong: done in 0:02\n");
}

TEST(Stage, IsOffWhereProgressIs) {
  setenv("VIXEN_PROGRESS", "off", 1);
  show_stages(true);
  testing::internal::CaptureStderr();
  {
    const Stage stage("long");
    std::this_thread::sleep_for(std::chrono::milliseconds(2'100));
  }
  show_stages(false);
  unsetenv("VIXEN_PROGRESS");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

}  // namespace
}  // namespace vixen

// What a process says that it does.
#include "base/activity.hpp"

#include <gtest/gtest.h>

#include <optional>
#include <stdexcept>
#include <thread>

#include "base/progress.hpp"

namespace vixen {
namespace {

TEST(Activity, TheInnermostWorkAndTheFirstFileCount) {
  set_activity_step(7);
  const Stage outer("load weights");
  {
    Progress inner("encode labels", "labels", 10, false);
    EXPECT_EQ(current_activity().work, "encode labels");
  }
  EXPECT_EQ(current_activity().work, "load weights");
  EXPECT_EQ(current_activity().step, 7);
  std::optional<AtFile> first("a.h5");
  const AtFile second("b.h5");
  EXPECT_EQ(current_activity().file, "a.h5");
  first.reset();
  EXPECT_EQ(current_activity().file, "b.h5");
}

TEST(Activity, FilesOfAThreadThatNobodyWaitsForDoNotCount) {
  std::thread([] {
    nobody_waits_for_files_of_this_thread();
    const AtFile file("checkpoint");
    EXPECT_EQ(current_activity().file, "");
  }).join();
  std::thread([] {
    const AtFile file("batch");
    EXPECT_EQ(current_activity().file, "batch");
    EXPECT_GE(current_activity().file_seconds, 0);
  }).join();
}

TEST(Activity, ACollectiveThatFailedStays) {
  { const InCollective ended("barrier #1"); }
  EXPECT_EQ(current_activity().collective, "");
  try {
    const InCollective failed("barrier #2");
    throw std::runtime_error("no progress");
  } catch (const std::runtime_error&) {
  }
  EXPECT_EQ(current_activity().collective, "barrier #2");
}

}  // namespace
}  // namespace vixen

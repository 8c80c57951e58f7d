// Tests on several ranks: one session, one communicator, and a watchdog that names the test and step that hung. Every
// test runs on every rank; after each test the ranks agree on whether it passed anywhere it failed, and all exit with 1
// if any test failed on any rank.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "base/log.hpp"
#include "comm/communicator.hpp"
#include "comm/session.hpp"

namespace vixen::test {

/// A collective without progress for this long fails the test.
inline constexpr double kDeadlineSeconds = 30;
/// A test that runs for this long is taken to hang.
inline constexpr std::chrono::seconds kHangAfter{100};

inline MpiSession* g_session = nullptr;
inline Communicator* g_world = nullptr;

/// The job, and the communicator over all its ranks (CPU).
inline MpiSession& session() {
  return *g_session;
}
inline Communicator& world() {
  return *g_world;
}

/// Watches the running test from a thread of its own.
class Watchdog {
 public:
  Watchdog() : thread_([this] { watch(); }) {}
  ~Watchdog() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    thread_.join();
  }
  void begin_test(std::string name) {
    const std::lock_guard lock(mutex_);
    test_ = std::move(name);
    step_ = "start";
    since_ = std::chrono::steady_clock::now();
  }
  void end_test() {
    const std::lock_guard lock(mutex_);
    test_.clear();
  }
  void set_step(std::string step) {
    const std::lock_guard lock(mutex_);
    step_ = std::move(step);
  }

 private:
  void watch() {
    std::unique_lock lock(mutex_);
    while (!wake_.wait_for(lock, std::chrono::milliseconds(200), [this] { return stop_; })) {
      if (test_.empty() || std::chrono::steady_clock::now() - since_ < kHangAfter) continue;
      session().abort(
          1, "test " + test_ + " hangs in step '" + step_ + "' after " + std::to_string(kHangAfter.count()) + " s",
          Fault::kOwn);
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  bool stop_ = false;
  std::string test_, step_;
  std::chrono::steady_clock::time_point since_;
  std::thread thread_;
};

inline Watchdog* g_watchdog = nullptr;

/// Names what the running test does next, for the watchdog's message.
inline void step(const std::string& what) {
  g_watchdog->set_step(what);
}

/// Prints failures with their rank, keeps the ranks in step and counts tests that failed anywhere.
class RankListener : public ::testing::EmptyTestEventListener {
 public:
  int failed_tests = 0;

  void OnTestStart(const ::testing::TestInfo& info) override {
    g_watchdog->begin_test(std::string(info.test_suite_name()) + "." + info.name());
  }
  void OnTestPartResult(const ::testing::TestPartResult& result) override {
    if (!result.failed() || session().rank() == 0) return;  // rank 0 has gtest's own printer
    std::fprintf(stderr, "[rank %d] %s:%d: failure\n%s\n", session().rank(),
                 result.file_name() ? result.file_name() : "?", result.line_number(), result.message());
    std::fflush(stderr);
  }
  void OnTestEnd(const ::testing::TestInfo& info) override {
    step("agreeing on the outcome");
    try {
      const int64_t failed = world().sum_host(static_cast<int64_t>(info.result()->Failed()));
      failed_tests += failed > 0;
      if (failed > 0 && session().rank() == 0) {
        std::fprintf(stderr, "%s.%s failed on %d of %d ranks\n", info.test_suite_name(), info.name(),
                     static_cast<int>(failed), session().world_size());
      }
    } catch (const std::exception& error) {
      session().abort(1,
                      std::string("after test ") + info.test_suite_name() + "." + info.name() +
                          " the ranks are out of step: " + error.what(),
                      Fault::kCollective);
    }
    g_watchdog->end_test();
  }
};

/// All tests of the executable; the exit code. set_up: numerics and devices of this process, before any test.
inline int run_all(int argc, char** argv, const std::function<void(const MpiSession&)>& set_up) {
  MpiSession job(&argc, &argv);
  ::testing::InitGoogleTest(&argc, argv);
  init_log(job.rank(), job.world_size(), LogLevel::kWarning);
  g_session = &job;
  int code = 1;
  try {
    set_up(job);
    const auto communicator = job.make_communicator(DeviceKind::kCpu, kDeadlineSeconds);
    g_world = communicator.get();
    Watchdog watchdog;
    g_watchdog = &watchdog;
    auto& listeners = ::testing::UnitTest::GetInstance()->listeners();
    if (job.rank() != 0) delete listeners.Release(listeners.default_result_printer());
    auto* listener = new RankListener;  // owned by gtest
    listeners.Append(listener);
    const int local_code = RUN_ALL_TESTS();
    code = local_code != 0 || listener->failed_tests > 0 ? 1 : 0;
  } catch (const std::exception& error) {
    job.abort(1, error.what(), Fault::kOwn);
  }
  g_world = nullptr;
  return code;
}

}  // namespace vixen::test

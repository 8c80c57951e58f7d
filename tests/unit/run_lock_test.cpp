// The lock of a run folder: who is refused, who is dead, and what a holder notices.
#include "base/run_lock.hpp"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/check.hpp"
#include "base/file.hpp"
#include "fixtures/fault.hpp"
#include "fixtures/temp_dir.hpp"

namespace vixen {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using std::chrono::milliseconds;

RunLock::Options quick() {
  RunLock::Options options;
  options.beat = milliseconds(40);
  return options;
}

class RunLockTest : public ::testing::Test {
 protected:
  fs::path lock() const { return folder_ / kLockFile; }
  json content() const { return json::parse(read_text(lock())); }
  /// The lock that another process would have left, with some members changed.
  void leave(const json& changes) const {
    json holder;
    {
      const RunLock own(folder_, quick());
      holder = content();
    }
    holder.update(changes);
    std::ofstream(lock()) << holder.dump(1) << "\n";
  }
  size_t files() const { return static_cast<size_t>(std::distance(fs::directory_iterator(folder_), {})); }

  const test::TempDir dir_;
  const fs::path& folder_ = dir_.path();
};

TEST_F(RunLockTest, ItStandsWhileTheFolderIsHeldAndGoesAfterwards) {
  {
    const RunLock own(folder_, quick());
    EXPECT_EQ(content()["pid"], ::getpid());
    EXPECT_EQ(content()["host"], this_holder().host);
    EXPECT_EQ(files(), 1u);
    EXPECT_FALSE(own.lost());
  }
  EXPECT_EQ(files(), 0u);
}

TEST_F(RunLockTest, ASecondJobIsRefusedInOneLineThatNamesTheFirst) {
  const RunLock own(folder_, quick());
  const std::string before = content()["token"];
  const std::string message = test::error_of([&] { const RunLock second(folder_, quick()); });
  EXPECT_NE(message.find(folder_.string() + " is in use by process " + std::to_string(::getpid())), message.npos)
      << message;
  EXPECT_EQ(message.find('\n'), message.npos);
  EXPECT_EQ(content()["token"], before);
  EXPECT_EQ(files(), 1u);
  EXPECT_FALSE(own.lost());
}

TEST_F(RunLockTest, AKilledHolderIsReplacedAtOnce) {
  const pid_t child = ::fork();
  if (child == 0) {
    const RunLock own(folder_, quick());
    ::_exit(0);  // as a kill: nothing is tidied
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(fs::exists(lock()));
  bool watched = false;
  auto options = quick();
  options.beat = std::chrono::seconds(60);  // watching would take minutes
  options.say = [&](const std::string& line) { watched = watched || line.find("watching") != line.npos; };
  const RunLock next(folder_, options);
  EXPECT_FALSE(watched);
  EXPECT_EQ(content()["pid"], ::getpid());
}

TEST_F(RunLockTest, ANumberThatAnotherProcessHasNowIsNotTheHolder) {
  leave({{"pid_start", 1}});  // this process, but begun at another time
  const RunLock next(folder_, quick());
  EXPECT_EQ(content()["pid_start"], this_holder().pid_start);
}

TEST_F(RunLockTest, AHolderOnAnotherHostIsWatchedAndRefusesWhileItsNumberRises) {
  leave({{"host", "elsewhere"}, {"boot_id", "another"}});
  std::atomic<bool> stop{false};
  std::thread remote([&] {
    json holder = content();
    for (int beat = 1; !stop; ++beat) {
      holder["beat"] = fmt::format("{:012}", beat);
      write_text_atomically(lock(), holder.dump(1) + "\n");
      std::this_thread::sleep_for(milliseconds(20));
    }
  });
  const std::string message = test::error_of([&] { const RunLock second(folder_, quick()); });
  stop = true;
  remote.join();
  EXPECT_NE(message.find("on host elsewhere"), message.npos) << message;
}

TEST_F(RunLockTest, AHolderOnAnotherHostThatStandsStillIsDeadAfterThreeBeats) {
  leave({{"host", "elsewhere"}, {"boot_id", "another"}});
  std::string said;
  auto options = quick();
  options.say = [&](const std::string& line) { said += line + "\n"; };
  const auto start = std::chrono::steady_clock::now();
  const RunLock next(folder_, options);
  EXPECT_GE(std::chrono::steady_clock::now() - start, options.beat * options.watched_beats);
  EXPECT_NE(said.find("watching it"), said.npos) << said;
  EXPECT_EQ(content()["host"], this_holder().host);
}

TEST_F(RunLockTest, WhatIsNoLockIsWatchedToo) {
  std::ofstream(lock()) << "{\"host\": ";
  const RunLock next(folder_, quick());
  EXPECT_EQ(content()["pid"], ::getpid());
}

TEST_F(RunLockTest, AHolderWhoseLockWasTakenNoticesAndLeavesTheNewOneAlone) {
  auto first = std::make_unique<RunLock>(folder_, quick());
  json other = content();
  other["token"] = "other";
  write_text_atomically(lock(), other.dump(1) + "\n");
  for (int i = 0; i < 100 && !first->lost(); ++i) std::this_thread::sleep_for(milliseconds(20));
  EXPECT_TRUE(first->lost());
  first.reset();
  EXPECT_EQ(content()["token"], "other");
}

TEST_F(RunLockTest, TheNumberRisesWhileTheFolderIsHeld) {
  const RunLock own(folder_, quick());
  const std::string before = content()["beat"];
  for (int i = 0; i < 100 && content()["beat"] == before; ++i) std::this_thread::sleep_for(milliseconds(20));
  EXPECT_GT(content()["beat"].get<std::string>(), before);
}

TEST_F(RunLockTest, OfManyJobsThatStartAtOnceOneGetsADeadHoldersFolder) {
  leave({{"pid_start", 1}});
  std::vector<pid_t> children;
  for (int i = 0; i < 8; ++i) {
    const pid_t child = ::fork();
    if (child == 0) {
      try {
        const RunLock own(folder_, quick());
        std::ofstream(folder_ / fmt::format("holder-{}", ::getpid())) << "";
        std::this_thread::sleep_for(milliseconds(1500));
        ::_exit(own.lost() ? 3 : 0);
      } catch (const UserError&) {
        ::_exit(2);
      }
    }
    children.push_back(child);
  }
  std::map<int, int> codes;
  for (const pid_t child : children) {
    int status = 0;
    ::waitpid(child, &status, 0);
    ++codes[WEXITSTATUS(status)];
  }
  EXPECT_EQ(codes[0], 1);
  EXPECT_EQ(codes[2], 7);
}

// Process 1 of a container may never ask how its children ended.
TEST(RunLockState, AProcessThatNobodyAskedAboutIsDead) {
  const test::TempDir folder;
  const pid_t child = ::fork();
  if (child == 0) {
    new RunLock(folder.path(), {});
    ::kill(::getpid(), SIGKILL);
  }
  siginfo_t ended = {};
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(child), &ended, WEXITED | WNOWAIT), 0);
  ASSERT_TRUE(std::filesystem::exists(folder.path() / kLockFile));
  EXPECT_EQ(start_of_process(child), -1);
  EXPECT_GT(start_of_process(::getpid()), 0);
  EXPECT_NO_THROW(RunLock(folder.path(), {}));
  ::waitpid(child, nullptr, 0);
}

TEST(RunLockState, WhatIsKnownWithoutWatching) {
  LockHolder asking;
  asking.host = "n1";
  asking.boot_id = "b";
  asking.pid_namespace = "pid:[1]";
  asking.slurm_job = "7";
  asking.slurm_restart = 1;
  LockHolder holder = asking;
  holder.pid = 12;
  holder.pid_start = 99;
  const auto runs = [](int64_t) { return int64_t{99}; };
  const auto gone = [](int64_t) { return int64_t{-1}; };
  const auto hidden = [](int64_t) { return kHiddenProcess; };
  EXPECT_EQ(state_of(holder, asking, runs), HolderState::kLive);
  EXPECT_EQ(state_of(holder, asking, gone), HolderState::kDead);
  EXPECT_EQ(state_of(holder, asking, hidden), HolderState::kUnknown);
  // The same host name after a restart, or a container beside us: numbers of processes mean nothing here.
  for (auto member : {&LockHolder::boot_id, &LockHolder::pid_namespace, &LockHolder::host}) {
    LockHolder other = holder;
    other.*member = "other";
    EXPECT_EQ(state_of(other, asking, runs), HolderState::kUnknown);
    other.slurm_restart = 0;  // SLURM has queued the job again since
    EXPECT_EQ(state_of(other, asking, runs), HolderState::kDead);
    other.slurm_job = "8";
    EXPECT_EQ(state_of(other, asking, runs), HolderState::kUnknown);
  }
}

}  // namespace
}  // namespace vixen

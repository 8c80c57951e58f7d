// One job a run folder: a lock file that tells a live holder from a dead one, also over NFS and after crashes.
//
// The file `run.lock` is one JSON object: who holds the folder (host, process, SLURM job), since when, and a number
// that the holder raises every few seconds. It appears by link(2), which is one step on every file system that we know
// of. A second job decides in this order:
//   same boot and process namespace      the holder lives when its process does (number and start time)
//   same SLURM job, earlier restart      dead: SLURM terminates a job before it requeues it
//   anything else (another host)         it watches the number for a while: a holder that lives raises it
// A holder whose lock was taken away all the same (a node that came back from the dead) sees it at the next beat.
#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>

namespace vixen {

/// Who holds a run folder.
struct LockHolder {
  std::string host, boot_id, pid_namespace;
  int64_t pid = 0, pid_start = 0;  // pid_start: clock ticks after boot, of /proc/PID/stat
  std::string slurm_job;           // "" outside SLURM
  int64_t slurm_restart = 0;       // how often SLURM requeued the job
  std::string since;               // "2026-11-26 05:40:12 UTC"
  std::string token;               // of this very lock
  int64_t beat = 0;

  /// "process 123 on host n1 (SLURM job 7) since ..."
  std::string text() const;
};

/// This process, without token and beat.
LockHolder this_holder();

enum class HolderState { kLive, kDead, kUnknown };
/// A process of another user, of which the system shows only that it is there.
inline constexpr int64_t kHiddenProcess = -2;
/// Clock ticks after boot at which a process of this machine began; -1 when there is none, or one that has ended and
/// only waits to be asked how (a zombie), kHiddenProcess.
int64_t start_of_process(int64_t pid);
/// What `asking` can know of `holder` without watching it. process_start: start_of_process(), or a test's.
HolderState state_of(const LockHolder& holder, const LockHolder& asking,
                     const std::function<int64_t(int64_t)>& process_start);

/// Holds a run folder from construction to destruction. One process a job (rank 0) has it.
class RunLock {
 public:
  struct Options {
    std::chrono::milliseconds beat{5000};
    int watched_beats = 6;  // a holder that nothing else is known of is dead after so many without a change
    std::function<void(const std::string&)> say = [](const std::string&) {};  // told before watching
  };

  /// UserError in one line that names the holder when a live job has the folder; nothing is changed then.
  RunLock(const std::filesystem::path& folder, const Options& options);
  /// Gives the folder back.
  ~RunLock();
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;

  /// True once another job has taken the folder over: this one must not write there any more.
  bool lost() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

inline constexpr const char* kLockFile = "run.lock";

}  // namespace vixen

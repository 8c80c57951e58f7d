// Writes checkpoints behind the training.
//
//   every rank       begin(): a copy in host memory ──┐  train, look() behind each step: have all written?  ──┐
//   its own thread                                    └─ its files: write, fsync, checksum                    │
//   rank 0's thread                                              manifest, fsync, rename into place, prune  ──┘
//
// What has the name of a checkpoint is whole: the name comes after every rank has said that its files are safe on disk.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <future>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "checkpoint/checkpoint.hpp"
#include "comm/agreement.hpp"
#include "comm/communicator.hpp"
#include "device/host_copies.hpp"

namespace vixen {

/// How a checkpoint ended; the same on every rank.
struct CheckpointEnd {
  uint64_t step = 0;
  std::string failure;          // empty: it is in place; else one line that names the file and the reason
  bool diverged = false;        // it failed on a value that is not finite, and the next one will
  double snapshot_seconds = 0;  // that training stood still for, on the slowest rank
  double write_seconds = 0;     // until the files of the slowest rank, then the manifest and the folder, were on disk
  int64_t bytes = 0;            // of all files of all ranks, but for the manifest
};

class CheckpointWriter {
 public:
  /// `comm` outlives the object. Local.
  CheckpointWriter(std::filesystem::path run_dir, Communicator& comm);
  /// What is still on its way is given up: it never gets its name, and the next begin() removes it. Waits a moment for
  /// the thread to notice, no longer: a job that a fault takes down must not stand here while a disk is slow.
  ~CheckpointWriter();
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  /// Begins RUN/checkpoints/step-XXXXXXXX, to be followed by pruning after `keep`, if any. None may be on its way.
  /// snapshot: the state is copied first, into memory that is kept for the next time, and may change when this returns;
  /// the host does not wait for a device. Without it the state must stay as it is until wait() has returned. UserError
  /// (on every rank) when rank 0 cannot make the folder: nothing is on its way then. Collective.
  void begin(const CheckpointState& state, const std::optional<KeepRules>& keep, bool snapshot);
  /// Whether one is on its way. The same on every rank.
  bool busy() const { return phase_ != Phase::kIdle; }
  /// Behind a step: how the checkpoint on its way ended, once it has. Ranks do not wait for each other's disks.
  /// Collective.
  std::optional<CheckpointEnd> look();
  /// Waits for the one on its way, however long its disks take. Collective.
  CheckpointEnd wait();

  /// Host memory that snapshots hold.
  int64_t snapshot_bytes() const { return copies_.bytes(); }

 private:
  enum class Phase { kIdle, kWriting, kCommitting };
  /// Runs work(cancelled) on a thread; what it met of the user's machine, and how long it took, is in the result.
  void start(std::function<nlohmann::json(const std::atomic<bool>&)> work);
  /// Whether this rank's thread has nothing to do any more, as a word for Agreement.
  int64_t word() const;
  /// When all ranks' threads are done: the next phase, or the end. Collective.
  std::optional<CheckpointEnd> advance();
  std::optional<CheckpointEnd> begin_commit();
  CheckpointEnd end();

  std::filesystem::path run_dir_;
  Communicator* comm_;
  Agreement agreement_;
  HostCopies copies_;
  bool had_folder_ = false;  // RUN/checkpoints was there; rank 0

  Phase phase_ = Phase::kIdle;
  CheckpointEnd end_;
  std::optional<KeepRules> keep_;
  nlohmann::json manifest_;  // without its files; rank 0
  std::shared_ptr<std::atomic<bool>> cancelled_;
  std::future<nlohmann::json> work_;  // valid while this rank's thread has something to do, or to tell
};

}  // namespace vixen

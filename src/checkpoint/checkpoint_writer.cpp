#include "checkpoint/checkpoint_writer.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <thread>
#include <utility>
#include <vector>

#include "base/activity.hpp"
#include "base/check.hpp"
#include "base/file.hpp"
#include "base/lap.hpp"
#include "base/log.hpp"
#include "base/progress.hpp"
#include "checkpoint/checkpoint_files.hpp"
#include "comm/on_root.hpp"
#include "device/device_timer.hpp"
#include "device/one_thread.hpp"
#include "model/weights/safetensors.hpp"

namespace vixen {
namespace {

namespace fs = std::filesystem;
using checkpoint::naming_faults;
using nlohmann::json;

// Words for Agreement: the larger wins.
constexpr int64_t kDone = 1, kAtWork = 2;
// How often ranks that wait tell each other, and how long a thread that is given up is waited for.
constexpr std::chrono::milliseconds kBeat{100}, kGoodbye{2000};

void stop_if(const std::atomic<bool>& cancelled) {
  if (cancelled) fail_user("given up");
}

fs::path partial_folder(const fs::path& run_dir, uint64_t step) {
  auto partial = checkpoint::step_folder(run_dir, step);
  partial += checkpoint::kPartial;
  return partial;
}

/// This rank's part of a checkpoint.
struct OwnFiles {
  fs::path folder;
  int rank = 0, world_size = 1;
  std::map<std::string, at::Tensor> dense, rows;  // dense: rank 0
};

/// Written, synchronised and described: {name: {bytes, checksum}}.
json write_files(const OwnFiles& own, const std::atomic<bool>& cancelled) {
  json files = json::object();
  const auto write = [&](const std::string& name, const std::map<std::string, at::Tensor>& tensors) {
    write_safetensors(own.folder / name, tensors, {}, [&] { stop_if(cancelled); });
    stop_if(cancelled);
    files[name] = checkpoint::describe_file(own.folder / name);
  };
  naming_faults([&] {
    fs::create_directories(own.folder);  // a network file system may show rank 0's folder late
    write(checkpoint::shard_name(own.rank, own.world_size), own.rows);
    if (own.rank == 0) write(checkpoint::kDense, own.dense);
  });
  return files;
}

/// Gives the folder of all files its name.
void commit(const fs::path& run_dir, const json& manifest, const std::atomic<bool>& cancelled) {
  const auto step = manifest.at("step").get<uint64_t>();
  const auto partial = partial_folder(run_dir, step);
  naming_faults([&] {
    // Safe on disk once: but a folder that somebody removed meanwhile, another rank may have made anew.
    for (const auto& [name, file] : manifest.at("files").items()) {
      const auto bytes = fs::file_size(partial / name), written = file.at("bytes").get<uint64_t>();
      if (bytes != written) fail_user("{}: found {} bytes, {} were written", (partial / name).string(), bytes, written);
    }
    stop_if(cancelled);
    write_text_atomically(partial / checkpoint::kManifest, checkpoint::manifest_text(manifest));
    sync_path(partial);
    stop_if(cancelled);
    checkpoint::move_into_place(partial, checkpoint::step_folder(run_dir, step));
  });
}

json describe_tables(const CheckpointState& state) {
  json tables = json::object();
  for (const auto& [name, table] : state.tables) {
    json shards = json::array();
    for (int rank = 0; rank < table.shards.world_size(); ++rank) {
      const auto range = table.shards.range(rank);
      shards.push_back({range.begin, range.end});
    }
    tables[name] = {
        {"rows", table.shards.n_rows()}, {"row_shape", table.local.sizes().slice(1).vec()}, {"shards", shards}};
  }
  return tables;
}

/// The result of `work` with its "seconds", or "failure" and "diverged". Bugs are thrown.
json outcome(const std::function<json()>& work) {
  const Lap lap;
  json found;
  try {
    found = work();
  } catch (const NotFiniteError& error) {
    found = {{"failure", error.what()}, {"diverged", true}};
  } catch (const UserError& error) {
    found = {{"failure", error.what()}};
  } catch (const fs::filesystem_error& error) {
    const auto message = said_by_system(error);
    if (!message) throw;
    found = {{"failure", *message}};
  }
  found["seconds"] = lap.total();
  return found;
}

}  // namespace

CheckpointWriter::CheckpointWriter(fs::path run_dir, Communicator& comm)
    : run_dir_(std::move(run_dir)), comm_(&comm), agreement_(comm), copies_(comm.device()) {
  if (comm.rank() == 0) had_folder_ = fs::exists(checkpoint::checkpoints_folder(run_dir_));
}

CheckpointWriter::~CheckpointWriter() {
  if (!work_.valid()) return;
  *cancelled_ = true;
  work_.wait_for(kGoodbye);
}

void CheckpointWriter::begin(const CheckpointState& state, const std::optional<KeepRules>& keep, bool snapshot) {
  VIXEN_CHECK(!busy(), "a checkpoint begins while that of step {} is on its way", end_.step);
  for (const auto& [name, table] : state.tables) {
    VIXEN_CHECK(table.shards.world_size() == comm_->world_size() &&
                    table.local.size(0) == table.shards.range(comm_->rank()).size(),
                "table {}: {} local rows, {} shards", name, table.local.size(0), table.shards.world_size());
  }
  const Lap lap;
  OwnFiles own{partial_folder(run_dir_, state.step), comm_->rank(), comm_->world_size(), {}, {}};
  on_root(*comm_, [&] {
    naming_faults([&] {
      const auto all = checkpoint::checkpoints_folder(run_dir_);
      if (had_folder_ && !fs::exists(all))
        spdlog::warn("{} is gone, and the checkpoints in it: it is made anew", all.string());
      checkpoint::remove_partial_folders(run_dir_);
      fs::create_directories(own.folder);
      had_folder_ = true;
    });
  });

  DeviceTimer timer(comm_->device());
  timer.start();
  const auto held = [&](const std::string& name, const at::Tensor& tensor) {
    return snapshot ? copies_.copy(name, tensor) : tensor;
  };
  for (const auto& [name, table] : state.tables) own.rows[name] = held("table " + name, table.local);
  if (own.rank == 0)
    for (const auto& [name, tensor] : state.dense) own.dense[name] = held("dense " + name, tensor);
  timer.stop();
  const auto copied = snapshot ? copies_.mark() : HostMoment();
  if (own.rank == 0)
    manifest_ = {{"step", state.step},
                 {"world_size", comm_->world_size()},
                 {"scalars", state.scalars},
                 {"tables", describe_tables(state)}};
  end_ = {};
  end_.step = state.step;
  keep_ = keep;
  phase_ = Phase::kWriting;
  const double stood_still = lap.total();
  // A device stands still while it copies, the host while it enqueues that.
  start([own = std::move(own), copied, stood_still, snapshot,
         timer = std::make_shared<DeviceTimer>(std::move(timer))](const std::atomic<bool>& cancelled) {
    copied.wait();
    const double copying = snapshot ? timer->seconds() : 0;
    return json{{"files", write_files(own, cancelled)}, {"snapshot_seconds", std::max(stood_still, copying)}};
  });
}

void CheckpointWriter::start(std::function<json(const std::atomic<bool>&)> work) {
  cancelled_ = std::make_shared<std::atomic<bool>>(false);
  std::packaged_task<json()> task([work = std::move(work), cancelled = cancelled_] {
    keep_to_one_thread();
    nobody_waits_for_files_of_this_thread();
    return outcome([&] { return work(*cancelled); });
  });
  work_ = task.get_future();
  // On its own: it holds all that it uses, and a process that ends for a fault does not wait for it.
  std::thread([task = std::move(task)]() mutable { task.make_ready_at_thread_exit(); }).detach();
}

int64_t CheckpointWriter::word() const {
  const bool done = !work_.valid() || work_.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
  return done ? kDone : kAtWork;
}

std::optional<CheckpointEnd> CheckpointWriter::look() {
  if (!busy() || agreement_.exchange(word()) != kDone) return std::nullopt;
  agreement_.settle();  // the word that has just been given is of the phase that is over
  return advance();
}

CheckpointEnd CheckpointWriter::wait() {
  VIXEN_CHECK(busy(), "no checkpoint is on its way");
  const Stage stage("write the checkpoint");
  agreement_.settle();
  while (true) {
    // No collective lasts longer than a beat, whatever a disk takes: comm.deadline_seconds is for ranks that hang.
    if (work_.valid()) work_.wait_for(kBeat);
    if (comm_->max_host(word()) != kDone) continue;
    if (const auto ended = advance()) return *ended;
  }
}

std::optional<CheckpointEnd> CheckpointWriter::advance() {
  if (phase_ == Phase::kWriting) return begin_commit();
  const json done = json::parse(comm_->broadcast_host(comm_->rank() == 0 ? work_.get().dump() : std::string(), 0));
  end_.write_seconds += done.at("seconds").get<double>();
  end_.failure = done.value("failure", "");
  return end();
}

std::optional<CheckpointEnd> CheckpointWriter::begin_commit() {
  json files = json::object();
  for (const auto& text : comm_->all_gather_host(work_.get().dump())) {
    const json of_rank = json::parse(text);
    if (end_.failure.empty()) end_.failure = of_rank.value("failure", "");
    end_.diverged = end_.diverged || of_rank.value("diverged", false);
    end_.snapshot_seconds = std::max(end_.snapshot_seconds, of_rank.value("snapshot_seconds", 0.0));
    end_.write_seconds = std::max(end_.write_seconds, of_rank.at("seconds").get<double>());
    if (of_rank.contains("files")) files.update(of_rank.at("files"));
  }
  if (!end_.failure.empty()) return end();
  for (const auto& [name, file] : files.items()) end_.bytes += file.at("bytes").get<int64_t>();
  phase_ = Phase::kCommitting;
  if (comm_->rank() == 0) {
    manifest_["files"] = std::move(files);
    start([run_dir = run_dir_, manifest = std::move(manifest_), keep = keep_](const std::atomic<bool>& cancelled) {
      commit(run_dir, manifest, cancelled);
      if (keep) prune_checkpoints(run_dir, *keep);
      return json::object();
    });
  }
  return std::nullopt;
}

CheckpointEnd CheckpointWriter::end() {
  if (!end_.failure.empty() && comm_->rank() == 0) checkpoint::remove_own_files(partial_folder(run_dir_, end_.step));
  phase_ = Phase::kIdle;
  return end_;
}

}  // namespace vixen

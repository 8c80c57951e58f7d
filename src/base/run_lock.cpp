// Taking, keeping alive and breaking the lock of a run folder.
#include "base/run_lock.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <sstream>
#include <system_error>
#include <thread>
#include <vector>

#include "base/check.hpp"
#include "base/file.hpp"
#include "base/host_name.hpp"

namespace vixen {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

constexpr size_t kBeatDigits = 12;

/// renameat2() that replaces nothing, where the kernel and the file system have it.
bool move_without_replacing(const fs::path& from, const fs::path& to) {
  return ::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0;
}

std::string first_line(const fs::path& path) {
  std::error_code error;
  if (!fs::exists(path, error)) return "";
  try {
    const std::string text = read_text(path);
    return text.substr(0, text.find('\n'));
  } catch (const UserError&) {
    return "";
  }
}

}  // namespace

int64_t start_of_process(int64_t pid) {
  const std::string line = first_line(fmt::format("/proc/{}/stat", pid));
  // /proc may hide other users' processes (mount option hidepid); signals tell that there is one.
  if (line.empty() && (::kill(static_cast<pid_t>(pid), 0) == 0 || errno == EPERM)) return kHiddenProcess;
  const size_t name_end = line.rfind(')');
  if (name_end == line.npos) return -1;
  // proc(5): field 3 is the state, 20 the threads, 22 the start.
  std::istringstream fields(line.substr(name_end + 1));
  std::vector<std::string> field(23);
  for (size_t i = 3; i < field.size(); ++i)
    if (!(fields >> field[i])) return -1;
  // Ended, and nobody has asked how: for good where process 1 of a container does not. Its files are closed.
  const bool ended = (field[3] == "Z" || field[3] == "X") && std::atoll(field[20].c_str()) <= 1;
  return ended ? -1 : std::atoll(field[22].c_str());
}

namespace {

std::string text_of_link(const char* path) {
  std::error_code error;
  const auto target = fs::read_symlink(path, error);
  return error ? "" : target.string();
}

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::string now_text() {
  const std::time_t now = std::time(nullptr);
  std::tm parts = {};
  ::gmtime_r(&now, &parts);
  char text[64];
  std::strftime(text, sizeof text, "%F %T UTC", &parts);
  return text;
}

std::string new_token() {
  std::random_device random;
  return fmt::format("{:08x}{:08x}", random(), random());
}

/// The beat has a fixed width: the text keeps its length, so that it can be written over in place.
std::string text_of(const LockHolder& holder) {
  return json{{"beat", fmt::format("{:0{}}", holder.beat, kBeatDigits)},
              {"boot_id", holder.boot_id},
              {"host", holder.host},
              {"pid", holder.pid},
              {"pid_namespace", holder.pid_namespace},
              {"pid_start", holder.pid_start},
              {"since", holder.since},
              {"slurm_job", holder.slurm_job},
              {"slurm_restart", holder.slurm_restart},
              {"token", holder.token}}
             .dump(1, ' ', false, json::error_handler_t::replace) +
         "\n";
}

/// nullopt for what is not a lock (cut short, another program's).
std::optional<LockHolder> parse_holder(const std::string& text) {
  try {
    const json object = json::parse(text);
    LockHolder holder;
    holder.beat = std::atoll(object.at("beat").get<std::string>().c_str());
    holder.boot_id = object.at("boot_id");
    holder.host = object.at("host");
    holder.pid = object.at("pid");
    holder.pid_namespace = object.at("pid_namespace");
    holder.pid_start = object.at("pid_start");
    holder.since = object.at("since");
    holder.slurm_job = object.at("slurm_job");
    holder.slurm_restart = object.at("slurm_restart");
    holder.token = object.at("token");
    return holder;
  } catch (const json::exception&) {
    return std::nullopt;
  }
}

/// The lock file's text, "" when it is not there (any more). UserError when it is, and may not be read: its holder may
/// live.
std::string read_lock(const fs::path& path) {
  try {
    return read_text(path);
  } catch (const UserError&) {
    struct stat status = {};
    if (::stat(path.c_str(), &status) != 0 && errno == ENOENT) return "";
    throw;
  }
}

[[noreturn]] void fail_lock(const fs::path& path, int error) {
  fail_user("cannot write {}: {}", path.string(), std::generic_category().message(error));
}

/// Writes the whole text at the file's start.
bool write_at_start(int descriptor, const std::string& text) {
  return ::pwrite(descriptor, text.data(), text.size(), 0) == static_cast<ssize_t>(text.size());
}

}  // namespace

std::string LockHolder::text() const {
  return fmt::format("process {} on host {}{} since {}", pid, host,
                     slurm_job.empty() ? "" : fmt::format(" (SLURM job {})", slurm_job), since);
}

LockHolder this_holder() {
  LockHolder holder;
  holder.host = host_name();
  holder.boot_id = first_line("/proc/sys/kernel/random/boot_id");
  holder.pid_namespace = text_of_link("/proc/self/ns/pid");
  holder.pid = ::getpid();
  holder.pid_start = start_of_process(holder.pid);
  holder.slurm_job = environment("SLURM_JOB_ID");
  holder.slurm_restart = std::atoll(environment("SLURM_RESTART_COUNT").c_str());
  holder.since = now_text();
  return holder;
}

HolderState state_of(const LockHolder& holder, const LockHolder& asking,
                     const std::function<int64_t(int64_t)>& process_start) {
  const bool same_processes = !holder.boot_id.empty() && holder.boot_id == asking.boot_id &&
                              holder.pid_namespace == asking.pid_namespace && holder.host == asking.host;
  if (same_processes) {
    const int64_t start = process_start(holder.pid);
    if (start == kHiddenProcess) return HolderState::kUnknown;
    return start == holder.pid_start ? HolderState::kLive : HolderState::kDead;
  }
  if (!holder.slurm_job.empty() && holder.slurm_job == asking.slurm_job && holder.slurm_restart < asking.slurm_restart)
    return HolderState::kDead;
  return HolderState::kUnknown;
}

struct RunLock::Impl {
  fs::path path;
  Options options;
  LockHolder self = this_holder();
  int descriptor = -1;
  std::atomic<bool> is_lost{false};
  std::mutex mutex;
  std::condition_variable ended;
  bool ending = false;
  std::thread beating;

  fs::path aside(const char* what) const {
    fs::path name = path;
    name += fmt::format(".{}-{}", what, self.token);
    return name;
  }

  /// True when the lock is ours now, false when another one is there.
  bool create() {
    const fs::path own = aside("new");
    descriptor = ::open(own.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor < 0) fail_lock(path, errno);
    const bool written = write_at_start(descriptor, text_of(self)) && ::fsync(descriptor) == 0;
    const int write_error = errno;
    int link_error = 0;
    if (written && ::link(own.c_str(), path.c_str()) != 0) {
      link_error = errno;
      // NFS may lose the answer to a link that was made: the count of names knows.
      struct stat status = {};
      if (::fstat(descriptor, &status) == 0 && status.st_nlink == 2) link_error = 0;
    }
    if (written && (link_error == EPERM || link_error == EOPNOTSUPP || link_error == ENOSYS)) {
      // A file system without hard links (FAT, some FUSE): exclusive creation is the one step there.
      const int exclusive = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
      link_error = exclusive < 0 ? errno : 0;
      if (exclusive >= 0) {
        ::close(descriptor);
        descriptor = exclusive;
        if (!write_at_start(descriptor, text_of(self))) {
          link_error = errno == 0 ? EIO : errno;  // a short write says nothing
          ::unlink(path.c_str());
        }
      }
    }
    ::unlink(own.c_str());
    if (written && link_error == 0) return true;
    ::close(std::exchange(descriptor, -1));
    if (!written) fail_lock(path, write_error);
    if (link_error != EEXIST) fail_lock(path, link_error);
    return false;
  }

  /// True when the lock with this text does not change while it is watched.
  bool stays(const std::string& seen, const std::string& holder) {
    const auto span = options.beat * options.watched_beats;
    options.say(fmt::format("{} is held by {}: watching it for {:.0f} s to see whether that job lives", path.string(),
                            holder, std::chrono::duration<double>(span).count()));
    const auto until = std::chrono::steady_clock::now() + span;
    while (std::chrono::steady_clock::now() < until) {
      std::this_thread::sleep_for(
          std::min<std::chrono::milliseconds>(options.beat / 4, std::chrono::milliseconds(500)));
      if (read_lock(path) != seen) return false;
    }
    return true;
  }

  /// Takes a dead holder's lock away. Should another job have been faster, its new lock is put back.
  void remove_dead(const std::string& seen) {
    if (read_lock(path) != seen) return;
    const fs::path moved = aside("dead");
    if (::rename(path.c_str(), moved.c_str()) != 0) return;  // gone already
    const auto found = parse_holder(read_lock(moved)), expected = parse_holder(seen);
    const bool is_another = found && expected && found->token != expected->token;
    if (is_another && (move_without_replacing(moved, path) || ::link(moved.c_str(), path.c_str()) == 0)) {
      ::unlink(moved.c_str());  // the second name of a link
      return;
    }
    std::error_code error;
    if (is_another && !fs::exists(path, error))
      ::rename(moved.c_str(), path.c_str());  // a file system that knows neither
    else
      ::unlink(moved.c_str());
  }

  void take() {
    constexpr int kMostTries = 20;
    for (int tries = 0; tries < kMostTries; ++tries) {
      self.token = new_token();
      if (create()) return;
      const std::string seen = read_lock(path);
      if (seen.empty()) {
        std::error_code error;
        if (fs::exists(path, error) && stays(seen, "an unknown job")) remove_dead(seen);
        continue;  // given back in between
      }
      const auto holder = parse_holder(seen);
      const std::string who = holder ? holder->text() : "a job whose lock cannot be read";
      HolderState state = holder ? state_of(*holder, self, start_of_process) : HolderState::kUnknown;
      if (state == HolderState::kUnknown) {
        if (stays(seen, who)) {
          state = HolderState::kDead;
        } else {
          const auto now = parse_holder(read_lock(path));
          if (!now || !holder || now->token != holder->token) continue;  // another holder: judged anew
          state = HolderState::kLive;
        }
      }
      if (state == HolderState::kLive) {
        fail_user("{} is in use by {}: wait for it, stop it, or give another --run.dir", path.parent_path().string(),
                  who);
      }
      options.say(fmt::format("{}: the process that held it has ended ({}): continuing", path.string(), who));
      remove_dead(seen);
    }
    fail_user("{} changes hands again and again: several jobs are started on this folder", path.string());
  }

  enum class Held { kYes, kNo, kUnknown };

  /// Unknown while a file server does not answer. The destructor asks too: nothing may leave.
  Held held() const noexcept {
    struct stat own = {}, there = {};
    if (::stat(path.c_str(), &there) != 0) return errno == ENOENT ? Held::kNo : Held::kUnknown;
    if (::fstat(descriptor, &own) == 0 && own.st_ino == there.st_ino && own.st_dev == there.st_dev) return Held::kYes;
    try {  // some network file systems make numbers up: the token decides
      const auto holder = parse_holder(read_lock(path));
      return holder && holder->token == self.token ? Held::kYes : Held::kNo;
    } catch (const std::exception&) {  // also memory that does not suffice
      return Held::kUnknown;
    }
  }

  void keep_alive() {
    std::unique_lock lock(mutex);
    int missed = 0;
    while (!ended.wait_for(lock, options.beat, [this] { return ending; })) {
      // Twice in a row: a job that breaks another's lock may hold ours in its hands for a moment.
      const Held now = held();
      if (now != Held::kUnknown) missed = now == Held::kYes ? 0 : missed + 1;
      if (missed >= 2) {
        is_lost = true;
        return;
      }
      ++self.beat;
      // A full disk or a server that is away does not end a run: the next beat may get through.
      if (write_at_start(descriptor, text_of(self))) ::fsync(descriptor);
    }
  }
};

RunLock::RunLock(const fs::path& folder, const Options& options) : impl_(std::make_unique<Impl>()) {
  impl_->path = folder / kLockFile;
  impl_->options = options;
  impl_->take();
  impl_->beating = std::thread([this] { impl_->keep_alive(); });
}

RunLock::~RunLock() {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->ending = true;
  }
  impl_->ended.notify_all();
  impl_->beating.join();
  if (!impl_->is_lost && impl_->held() == Impl::Held::kYes) ::unlink(impl_->path.c_str());
  ::close(impl_->descriptor);
}

bool RunLock::lost() const {
  return impl_->is_lost;
}

}  // namespace vixen

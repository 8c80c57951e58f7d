// Beats over MPI, and what rank 0 concludes from them.
#include "comm/job_watch.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <new>
#include <type_traits>
#include <utility>

#include "base/stop.hpp"
#include "comm/mpi_check.hpp"
#include "comm/mpi_lock.hpp"

namespace vixen {
namespace {

using namespace std::chrono_literals;

constexpr auto kTurn = 50ms;                    // how often a rank looks
constexpr double kBeat = 0.2, kBeatOfMany = 1;  // seconds between two beats, by the number of ranks
constexpr int kMany = 64;
constexpr double kStopped = 1;   // seconds that a turn may last: after more, this process itself was stopped
constexpr double kFile = 0.5;    // seconds in a file call that count as waiting for it
constexpr double kGather = 0.2;  // seconds, more than a beat, for the others to say what they do once one has failed
constexpr double kGrace = 1.5;   // seconds for the reason of a process that is gone to arrive
constexpr int kBeatsMissed = 8;  // in a row: they mean something when a collective fails
constexpr double kUnheard = 3;   // seconds after which a rank speaks for itself
constexpr double kTurnToSpeak = 0.8;  // seconds between the ranks that could speak for rank 0
constexpr int kTurns = 3;
constexpr double kWoken = 10;  // seconds in which a process that was stopped for long leaves judgement to the others
constexpr int kLooks = 32;
constexpr int kTag = 0;

constexpr const char* kGone = "its process is gone (killed, crashed, or out of memory)";
std::string silence(double seconds) {
  return fmt::format("no sign of life for {:.1f} s (stopped, or cut off)", seconds);
}

template <size_t N>
void put(char (&target)[N], const std::string& text) {
  const size_t size = std::min(text.size(), N - 1);
  std::memcpy(target, text.data(), size);
  target[size] = '\0';
}

// Processes see one another by number only within one namespace of process numbers.
uint64_t process_namespace() {
  struct stat status = {};
  return ::stat("/proc/self/ns/pid", &status) == 0 ? status.st_ino : 0;
}

}  // namespace

JobWatch::JobWatch(const std::string& host, double silent_seconds, End end)
    : silent_seconds_(silent_seconds), end_(std::move(end)) {
  static_assert(std::is_trivially_copyable_v<Beat>);
  VIXEN_MPI(MPI_Comm_dup(MPI_COMM_WORLD, &comm_));
  VIXEN_MPI(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN));
  VIXEN_MPI(MPI_Comm_rank(comm_, &rank_));
  VIXEN_MPI(MPI_Comm_size(comm_, &world_size_));
  beat_seconds_ = world_size_ > kMany ? kBeatOfMany : kBeat;
  silent_at_end_ = std::min(silent_seconds, kBeatsMissed * beat_seconds_);
  meet(host);
  last_beat_ = Clock::now();
  for (int rank = 0; rank < world_size_; ++rank) {
    if (rank == rank_ || (!is_root() && rank != 0)) continue;
    links_.emplace_back();
    links_.back().rank = rank;
    links_.back().heard = last_beat_;
  }
  requests_.assign(2 * links_.size(), MPI_REQUEST_NULL);
  thread_ = std::thread([this] { watch(); });
}

JobWatch::~JobWatch() {
  if (std::uncaught_exceptions() == 0) leave();
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
  for (const Neighbour& neighbour : neighbours_) ::close(neighbour.descriptor);
  // Where beats are still under way, MPI may write into their memory until the process ends.
  if (!is_over()) new (std::nothrow) std::vector<Link>(std::move(links_));
}

void JobWatch::meet(const std::string& host) {
  struct Hello {
    char host[64] = "";
    int64_t process = 0;
    uint64_t space = 0;
    int32_t node = 0;
  } own;
  put(own.host, host);
  own.process = ::getpid();
  own.space = process_namespace();
  MPI_Comm node = MPI_COMM_NULL;
  VIXEN_MPI(MPI_Comm_split_type(comm_, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &node));
  own.node = rank_;
  VIXEN_MPI(MPI_Bcast(&own.node, 1, MPI_INT, 0, node));
  VIXEN_MPI(MPI_Comm_free(&node));
  std::vector<Hello> all(static_cast<size_t>(world_size_));
  VIXEN_MPI(MPI_Allgather(&own, sizeof own, MPI_BYTE, all.data(), sizeof own, MPI_BYTE, comm_));
  for (int rank = 0; rank < world_size_; ++rank) {
    const Hello& hello = all[static_cast<size_t>(rank)];
    ranks_.push_back({hello.host, {}, 0, false, rank == rank_});
    if (rank == rank_ || hello.node != own.node || hello.space != own.space) continue;
    const auto descriptor = static_cast<int>(::syscall(SYS_pidfd_open, static_cast<pid_t>(hello.process), 0));
    if (descriptor >= 0) neighbours_.push_back({rank, descriptor});
  }
}

double JobWatch::since(Clock::time_point then) const {
  return std::chrono::duration<double>(Clock::now() - then).count();
}

void JobWatch::watch() {
  auto turn = Clock::now();
  while (true) {
    {
      std::unique_lock lock(mutex_);
      wake_.wait_for(lock, kTurn, [this] { return stop_ || urgent_; });
      if (stop_) return;
    }
    if (const double lasted = since(turn); lasted > kStopped) {  // what happened meanwhile was not heard: not silence
      const auto missed = std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(lasted));
      for (Link& link : links_) link.heard += missed;
      if (lasted >= silent_seconds_ / 2) woken_at_ = turn + missed;  // others began to count before it stopped
    }
    turn = Clock::now();
    if (const std::unique_lock lock(mpi_mutex(), kTurn); lock.owns_lock()) {
      exchange();
      if (is_over()) {
        const std::lock_guard over(mutex_);
        over_ = true;
        over_wake_.notify_all();
        return;
      }
    }
    look_at_neighbours();
    update_standings();
    if (is_root())
      judge();
    else
      judge_root();
  }
}

bool JobWatch::is_over() const {
  const std::lock_guard lock(mutex_);
  return leaving_ && std::all_of(links_.begin(), links_.end(), [](const Link& link) {
           return link.said_leaving && link.heard_leaving && !link.sending;
         });
}

JobWatch::Beat JobWatch::own_beat() const {
  Beat beat;
  {
    const std::lock_guard lock(mutex_);
    if (failure_) beat = *failure_;
  }
  const Activity activity = current_activity();
  beat.gone = gone_;
  beat.step = activity.step;
  beat.file_seconds = activity.file_seconds;
  beat.collective_seconds = activity.collective_seconds;
  // In a collective, the main thread does not wait for the file that another thread is at.
  beat.file_waits = activity.collective.empty() && activity.file_seconds > kFile;
  put(beat.work, activity.work);
  put(beat.file, activity.file);
  put(beat.collective, activity.collective);
  return beat;
}

void JobWatch::reap() {
  std::vector<int> done(requests_.size());
  std::vector<MPI_Status> statuses(requests_.size());
  int count = 0;
  const int code =
      MPI_Testsome(static_cast<int>(requests_.size()), requests_.data(), &count, done.data(), statuses.data());
  for (int i = 0; count != MPI_UNDEFINED && i < count; ++i) {
    const auto place = static_cast<size_t>(done[static_cast<size_t>(i)]);
    Link& link = links_[place / 2];
    const int error = statuses[static_cast<size_t>(i)].MPI_ERROR;
    if (code == MPI_ERR_IN_STATUS && error != MPI_SUCCESS && error != MPI_ERR_PENDING) link.broken = true;
    if (place % 2 == 1) {
      link.sending = false;
    } else {
      link.listening = false;
      if (!link.broken) hear(link);
    }
  }
  for (size_t i = 0; i < links_.size(); ++i) listen(i);
}

void JobWatch::exchange() {
  // Open MPI looks at its sockets in one of eight calls; while the work computes, nobody else calls it.
  for (int look = 0; look < kLooks; ++look) reap();

  Beat beat = own_beat();
  if (is_root()) {
    for (const Link& link : links_) beat.file_waits |= link.received.file_waits;
    file_waits_ = beat.file_waits != 0;
  }
  bool due = since(last_beat_) >= beat_seconds_, leaving = false;
  {
    const std::lock_guard lock(mutex_);
    due = std::exchange(urgent_, false) || due;
    leaving = leaving_;
  }
  if (due) last_beat_ = Clock::now();
  for (size_t i = 0; i < links_.size(); ++i) {
    // A rank leaves when its work is done; rank 0, which the others need till then, leaves each that has left.
    Beat own = beat;
    if (own.kind == kAlive && (is_root() ? links_[i].heard_leaving : leaving)) own.kind = kLeaving;
    if (due || own.kind == kLeaving) send(i, own);
  }
}

void JobWatch::listen(size_t i) {
  Link& link = links_[i];
  if (link.listening || link.broken || link.heard_leaving) return;
  link.listening =
      MPI_Irecv(&link.arriving, sizeof(Beat), MPI_BYTE, link.rank, kTag, comm_, &requests_[2 * i]) == MPI_SUCCESS;
  link.broken = !link.listening;
}

void JobWatch::send(size_t i, const Beat& beat) {
  Link& link = links_[i];
  if (link.sending || link.broken || link.said_leaving) return;
  link.sent = beat;
  link.sending =
      MPI_Isend(&link.sent, sizeof(Beat), MPI_BYTE, link.rank, kTag, comm_, &requests_[2 * i + 1]) == MPI_SUCCESS;
  link.broken = !link.sending;
  link.said_leaving = beat.kind == kLeaving && link.sending;
}

void JobWatch::hear(Link& link) {
  const Beat& beat = link.received = link.arriving;
  link.heard = Clock::now();
  link.heard_leaving = beat.kind == kLeaving;
  Standing& standing = ranks_[static_cast<size_t>(link.rank)];
  standing.known = true;
  standing.activity = {beat.step, beat.work, beat.file, beat.file_seconds, beat.collective, beat.collective_seconds};
  if (!is_root()) file_waits_ = beat.file_waits != 0;
  if (is_root() && beat.gone >= 0 && gone_ < 0) {
    gone_ = beat.gone;
    gone_at_ = Clock::now();
  }
}

const JobWatch::Link* JobWatch::link_to(int rank) const {
  const auto link = std::find_if(links_.begin(), links_.end(), [&](const Link& l) { return l.rank == rank; });
  return link == links_.end() ? nullptr : &*link;
}

void JobWatch::look_at_neighbours() {
  if (gone_ >= 0) return;
  for (const Neighbour& neighbour : neighbours_) {
    pollfd look = {neighbour.descriptor, POLLIN, 0};
    if (::poll(&look, 1, 0) <= 0) continue;
    const Link* link = link_to(neighbour.rank);
    if (link != nullptr && (link->heard_leaving || link->received.kind == kFailed)) continue;
    gone_ = neighbour.rank;
    gone_at_ = Clock::now();
    const std::lock_guard lock(mutex_);
    urgent_ = true;
    return;
  }
}

void JobWatch::update_standings() {
  for (const Link& link : links_)
    ranks_[static_cast<size_t>(link.rank)].silent_seconds = link.heard_leaving ? 0 : since(link.heard);
  ranks_[static_cast<size_t>(rank_)].activity = current_activity();
  if (gone_ < 0) return;
  Standing& standing = ranks_[static_cast<size_t>(gone_)];
  standing.gone = standing.known = true;
}

double JobWatch::grace() const {
  // A launcher that ends the job already leaves little time.
  return stop_requested() != 0 ? beat_seconds_ + kGather : kGrace;
}

std::optional<JobWatch::Beat> JobWatch::own_failure() const {
  const std::lock_guard lock(mutex_);
  return failure_;
}

void JobWatch::judge() {
  if (since(woken_at_) < kWoken) return;
  // What ranks say of themselves comes first.
  std::optional<Beat> failure = own_failure();
  int failing = failure ? rank_ : -1;
  for (const Link& link : links_) {
    if (failure) break;
    if (link.received.kind != kFailed) continue;
    failure = link.received;
    failing = link.rank;
  }
  if (failure) {
    if (failed_at_ == Clock::time_point()) failed_at_ = Clock::now();
    if (since(failed_at_) >= beat_seconds_ + kGather) blame(*failure, failing);
    return;
  }
  if (gone_ >= 0) {
    const Link* link = link_to(gone_);
    if (link != nullptr && link->heard_leaving)
      gone_ = -1;  // it had nothing left to do
    else if (since(gone_at_) >= grace())
      speak(gone_, kGone, 1, Fault::kOwn);
    return;
  }
  for (const Link& link : links_) {
    const double silent = ranks_[static_cast<size_t>(link.rank)].silent_seconds;
    if (silent < silent_seconds_) continue;
    speak(link.rank, silence(silent), 1, Fault::kOwn);
    return;
  }
}

void JobWatch::judge_root() {
  const Link& root = links_.front();
  if (since(woken_at_) < kWoken) return;
  if (root.heard_leaving || root.received.kind == kFailed) return;  // it speaks itself
  // A lower rank of this node speaks first; when it is gone as well, it has most likely spoken.
  const bool other_first = std::any_of(neighbours_.begin(), neighbours_.end(), [&](const Neighbour& neighbour) {
    return neighbour.rank > 0 && neighbour.rank < rank_;
  });
  const double turn = other_first ? kUnheard : kTurnToSpeak * std::min(rank_ - 1, kTurns);
  if (turn > 0 && stop_requested() != 0) return;  // the launcher ends the job: another has spoken
  const std::optional<Beat> own = own_failure();
  if (own && failed_at_ == Clock::time_point()) failed_at_ = Clock::now();
  const double silent = since(root.heard);
  if (gone_ == 0 && since(gone_at_) >= grace() + turn)
    speak(0, kGone, 1, Fault::kOwn);
  else if (silent >= (own && own->fault == Fault::kCollective ? silent_at_end_ : silent_seconds_) + turn)
    speak(0, silence(silent), 1, Fault::kOwn);
  else if (own && since(failed_at_) >= kUnheard + turn)
    speak(rank_, own->reason, own->exit_code, own->fault);
}

void JobWatch::blame(const Beat& failure, int rank) {
  if (failure.fault == Fault::kCollective) {
    if (gone_ >= 0) return speak(gone_, kGone, 1, Fault::kOwn);
    std::vector<int> absent;  // in no collective
    for (int other = 0; other < world_size_; ++other) {
      const Standing& standing = ranks_[static_cast<size_t>(other)];
      if (standing.silent_seconds >= silent_at_end_)
        return speak(other, silence(standing.silent_seconds), failure.exit_code, Fault::kOwn);
      if (other != rank && standing.activity.collective.empty()) absent.push_back(other);
    }
    if (absent.size() == 1) {
      const Activity& activity = ranks_[static_cast<size_t>(absent.front())].activity;
      const std::string busy = !activity.file.empty()
                                   ? fmt::format("for {:.0f} s at the file {}", activity.file_seconds, activity.file)
                               : !activity.work.empty() ? "at work: " + activity.work
                                                        : "at work";
      return speak(absent.front(), fmt::format("does not come to {}: {}", failure.collective, busy), failure.exit_code,
                   Fault::kOwn);
    }
  }
  speak(rank, failure.reason, failure.exit_code, failure.fault);
}

void JobWatch::speak(int rank, const std::string& reason, int exit_code, Fault fault) {
  {
    const std::lock_guard lock(mutex_);
    if (std::exchange(spoken_, true)) return;
  }
  if (is_root()) announce();
  end_(exit_code, failure_text(ranks_, rank, reason, exit_code, silent_at_end_, fault != Fault::kMistake));
  const std::lock_guard lock(mutex_);
  said_ = true;
  over_wake_.notify_all();
}

void JobWatch::announce() {
  const std::unique_lock mpi(mpi_mutex(), kTurn);
  if (!mpi.owns_lock()) return;
  Beat end = own_beat();
  end.kind = kFailed;
  const auto begin = Clock::now();
  do {  // a beat that is under way comes first
    exchange();
    for (size_t i = 0; i < links_.size(); ++i)
      if (links_[i].sent.kind != kFailed) send(i, end);
  } while (since(begin) < 0.05 && std::any_of(links_.begin(), links_.end(), [](const Link& link) {
             return !link.broken && !link.said_leaving && (link.sending || link.sent.kind != kFailed);
           }));
}

void JobWatch::end_job(int exit_code, const std::string& reason, Fault fault) {
  Beat failure;
  failure.kind = kFailed;
  failure.exit_code = exit_code;
  failure.fault = fault;
  put(failure.collective, current_activity().collective);
  put(failure.reason, reason);
  std::unique_lock lock(mutex_);
  failure_ = failure;
  urgent_ = true;
  wake_.notify_all();
  over_wake_.wait_for(lock, std::chrono::duration<double>(kUnheard + kTurnToSpeak * (kTurns + 1)),
                      [this] { return said_; });
}

void JobWatch::leave() {
  std::unique_lock lock(mutex_);
  leaving_ = urgent_ = true;
  wake_.notify_all();
  over_wake_.wait(lock, [this] { return over_; });
  lock.unlock();
  if (!thread_.joinable()) return;
  thread_.join();
  VIXEN_MPI(MPI_Comm_free(&comm_));
}

}  // namespace vixen

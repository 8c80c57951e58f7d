// The ranks of a job tell one another, some times a second (once, where they are many) and beside the work, that they
// live and what they do. From that follow: how patient a collective is while another rank waits for a file, that a rank
// which is silent or gone ends the job, and one message that says what every rank was doing.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "comm/job_report.hpp"
#include "comm/mpi_c.hpp"

namespace vixen {

/// Why a rank ends the job.
enum class Fault : int32_t {
  kMistake,     // the user's: what the others do does not matter
  kOwn,         // of this rank
  kCollective,  // a collective that failed or took too long: perhaps because of another rank
};

/// A thread of every rank. All ranks write to rank 0 and hear from it; rank 0 judges and speaks for all, or, should it
/// be the one that is silent or gone, the first of the others that notices.
class JobWatch {
 public:
  /// Ends the job with an exit code and says the line. Called once, by the watching thread or by end_job(); in a real
  /// job it does not return.
  using End = std::function<void(int exit_code, const std::string& line)>;

  /// Collective, for two ranks or more. host: of this rank. silent_seconds: a rank from which nothing has come for so
  /// long ends the job.
  JobWatch(const std::string& host, double silent_seconds, End end);
  /// Calls leave(), but while an exception unwinds.
  ~JobWatch();
  JobWatch(const JobWatch&) = delete;
  JobWatch& operator=(const JobWatch&) = delete;

  /// This rank's work is done: nobody misses it from here on. Collective. Ends the thread.
  void leave();

  /// Whether some rank waits for a file, as of the last beat.
  const std::atomic<bool>& file_waits() const { return file_waits_; }

  /// Has the job ended because of what happened to this rank: rank 0 says it, together with what the others do, or this
  /// rank does when rank 0 is silent. Returns after `End` has returned on this rank (in tests), or after some seconds
  /// in which another rank has called it.
  void end_job(int exit_code, const std::string& reason, Fault fault);

 private:
  using Clock = std::chrono::steady_clock;
  enum Kind : int32_t { kAlive, kFailed, kLeaving };

  /// What travels. Texts end with a zero and are cut where they are too long.
  struct Beat {
    int32_t kind = kAlive;
    int32_t gone = -1;  // a rank of the sender's node whose process is no more
    int32_t exit_code = 0;
    Fault fault = Fault::kOwn;
    int32_t file_waits = 0;  // the sender's; from rank 0: anybody's
    int64_t step = -1;
    double file_seconds = 0, collective_seconds = 0;
    char work[64] = "", file[256] = "", collective[64] = "", reason[1024] = "";
  };
  /// To and from one other rank.
  struct Link {
    int rank = -1;
    Beat sent, arriving, received;  // `arriving` is MPI's while it listens
    bool sending = false, listening = false;
    bool said_leaving = false, heard_leaving = false;
    bool broken = false;  // MPI said so: nothing is sent any more
    Clock::time_point heard;
  };
  struct Neighbour {  // a process of this node that can be looked at
    int rank = -1;
    int descriptor = -1;  // pidfd
  };

  void meet(const std::string& host);  // fills ranks_ and neighbours_
  void watch();
  void exchange();  // under the MPI lock, as the three behind it
  void reap();
  void listen(size_t link);
  void send(size_t link, const Beat& beat);
  Beat own_beat() const;
  void hear(Link& link);
  const Link* link_to(int rank) const;  // null: none
  std::optional<Beat> own_failure() const;
  void look_at_neighbours();
  void update_standings();
  void judge();       // on rank 0
  void judge_root();  // on the others
  void blame(const Beat& failure, int rank);
  void announce();  // that rank 0 is about to speak: the others need not
  void speak(int rank, const std::string& reason, int exit_code, Fault fault);
  bool is_over() const;
  bool is_root() const { return rank_ == 0; }
  double since(Clock::time_point then) const;
  double grace() const;  // for a process that is gone to have said why

  MPI_Comm comm_ = MPI_COMM_NULL;
  int rank_ = 0, world_size_ = 1;
  double silent_seconds_, beat_seconds_ = 0, silent_at_end_ = 0;
  End end_;
  std::atomic<bool> file_waits_ = false;

  // Of the thread.
  std::vector<Standing> ranks_;        // [W]; other ranks than 0 know themselves, rank 0, and who is gone
  std::vector<Link> links_;            // rank 0: to all others; others: to rank 0
  std::vector<MPI_Request> requests_;  // of receiving and sending by links_[i], at 2i and 2i + 1
  std::vector<Neighbour> neighbours_;
  Clock::time_point last_beat_;
  int gone_ = -1;  // the first rank whose process went without a word
  Clock::time_point gone_at_, failed_at_;
  Clock::time_point woken_at_{Clock::duration::min() / 2};  // after a stop that the others may not have borne

  mutable std::mutex mutex_;  // of what follows
  std::condition_variable wake_, over_wake_;
  bool urgent_ = false;  // a beat is due at once
  bool leaving_ = false, stop_ = false, over_ = false;
  bool spoken_ = false, said_ = false;  // speak() has begun, has ended
  std::optional<Beat> failure_;         // of this rank
  std::thread thread_;
};

}  // namespace vixen

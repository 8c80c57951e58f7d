// What this process is doing, kept for those that wait for it: the step, the work by name, the file and the collective
// that it waits in. Written by the threads that work, read by the one that tells the other ranks (comm/job_watch.hpp).
#pragma once

#include <cstdint>
#include <string>

namespace vixen {

/// A plain value; empty texts: nothing of the kind.
struct Activity {
  int64_t step = -1;  // of training, from 1; -1: none yet
  std::string work;   // the innermost stage: "load weights"
  std::string file;   // the file that was opened, read or written first of those under way
  double file_seconds = 0;
  std::string collective;  // "all_reduce_sum #12"
  double collective_seconds = 0;
};

/// Of this process, now.
Activity current_activity();

/// The step of training that has begun.
void set_activity_step(int64_t step);

/// Work with a name, until the end of the scope. Of scopes within one another the innermost counts.
class Doing {
 public:
  explicit Doing(const std::string& work);
  ~Doing();
  Doing(const Doing&) = delete;
  Doing& operator=(const Doing&) = delete;

 private:
  int64_t ticket_;
};

/// A call that may wait for a file system, until the end of the scope. Any thread, but for those that nobody waits for.
class AtFile {
 public:
  explicit AtFile(const std::string& path);
  ~AtFile();
  AtFile(const AtFile&) = delete;
  AtFile& operator=(const AtFile&) = delete;

 private:
  int64_t ticket_;
};

/// Says that nobody waits for what the calling thread does with files (checkpoints behind the training).
void nobody_waits_for_files_of_this_thread();

/// A collective that is being waited for, until the end of the scope. One that an exception leaves stays: it is what
/// the process ends in.
class InCollective {
 public:
  explicit InCollective(const std::string& name);
  ~InCollective();
  InCollective(const InCollective&) = delete;
  InCollective& operator=(const InCollective&) = delete;

 private:
  int64_t ticket_;
};

}  // namespace vixen

// Work that is to run on the calling thread alone.
#pragma once

namespace vixen {

/// While it lives, OpenMP regions that this thread opens have one thread.
class OneThread {
 public:
  OneThread();
  ~OneThread();
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int before_;
};

}  // namespace vixen

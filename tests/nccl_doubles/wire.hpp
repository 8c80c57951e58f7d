// How ranks of a double of NCCL reach each other: a connection of this machine between each two of them. MPI would be
// no help: programs initialise it for calls of one thread at a time, and streams are threads of their own.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace vixen::doubles {

/// What this rank sends to a peer and receives from it.
struct Parcel {
  int peer = 0;
  const char* out = nullptr;
  size_t out_bytes = 0;
  char* in = nullptr;
  size_t in_bytes = 0;
};

class Wire {
 public:
  Wire(std::string name, int rank, int world_size);
  ~Wire();
  Wire(const Wire&) = delete;
  Wire& operator=(const Wire&) = delete;

  /// Meets all peers, which know the same name; false once cut() was called. met(n): n peers are met.
  bool connect(const std::function<void(int)>& met);
  /// Sends and receives all of it, at the same time; false once cut() was called. A peer that is gone is given to
  /// lost(), then this waits for cut(). One call at a time.
  bool exchange(std::vector<Parcel> parcels, const std::function<void(int)>& lost);
  /// Ends what is under way and all that follows. From any thread.
  void cut();
  bool is_cut() const { return cut_; }
  /// Returns when cut() was called.
  void wait_for_cut() const;
  /// Peers see this rank go.
  void close();

 private:
  std::string name_;
  int rank_, world_size_;
  int listener_ = -1;
  int wake_ = -1;           // readable once it is cut
  std::vector<int> peers_;  // [world_size]
  std::atomic<bool> cut_ = false;
};

}  // namespace vixen::doubles

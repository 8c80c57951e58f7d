// A set of MPI requests that belong to one collective, and the patient wait for them: with a deadline, without starving
// other ranks of the same cores. For files of this folder only.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "comm/mpi_c.hpp"
#include "comm/patience.hpp"

namespace vixen {

/// Requests in flight. Memory they touch is kept alive by keep(): if the wait fails, MPI may still write to it, so it
/// is then never given back.
class MpiTransfer {
 public:
  /// Messages are cut into pieces of this many bytes: counts stay far below 2^31, and a slow link shows progress.
  static constexpr size_t kPieceBytes = size_t{64} << 20;

  /// name: the collective, for messages ("all_reduce_sum #12").
  MpiTransfer(MPI_Comm comm, std::string name, const Patience& patience);
  ~MpiTransfer();
  MpiTransfer(const MpiTransfer&) = delete;
  MpiTransfer& operator=(const MpiTransfer&) = delete;

  /// Keeps a tensor or buffer alive until the transfer has ended.
  template <typename Owner>
  void keep(Owner owner) {
    kept_.push_back(std::make_shared<Owner>(std::move(owner)));
  }

  /// Bytes to or from one rank, in pieces. Nothing is posted for no bytes.
  void send(const void* data, size_t bytes, int to, int tag);
  void receive(void* data, size_t bytes, int from, int tag);
  /// A request of a non-blocking collective: `mpi_check` the call, then hand it over.
  void add(MPI_Request request);

  /// Returns when all requests are complete. Throws CommError when none of them completes for as long as patience
  /// allows (a pause of this process itself does not count), when MPI reports an error, or when a message is not as
  /// long as this rank expected (ranks disagree about the collective).
  void wait();

 private:
  struct Peer {
    int rank = -1;  // -1: a collective, all ranks
    bool receive = false;
    int bytes = 0;
  };
  bool test();  // reaps what has completed; true if anything has
  std::string missing() const;

  MPI_Comm comm_;
  std::string name_;
  Patience patience_;
  std::vector<MPI_Request> requests_;
  std::vector<Peer> peers_;  // of requests_
  size_t open_ = 0;
  std::vector<std::shared_ptr<void>> kept_;
  std::vector<int> done_;
  std::vector<MPI_Status> statuses_;
};

}  // namespace vixen

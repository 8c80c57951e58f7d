// The communicator over MPI: collectives made of point-to-point messages in a fixed order, each with a deadline.
//
// Letters: W ranks, n_r rows of rank r.
#include "comm/mpi_communicator.hpp"

#include <c10/core/GradMode.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <numeric>
#include <utility>

#include "base/check.hpp"
#include "base/log.hpp"
#include "comm/message_counts.hpp"
#include "comm/mpi_c.hpp"
#include "comm/mpi_check.hpp"
#include "comm/mpi_transfer.hpp"
#include "comm/tensor_rows.hpp"
#include "shard/row_shards.hpp"

namespace vixen {

namespace {

// Tags run around: far more collectives than can be in flight at a time, within the range every MPI grants.
constexpr int64_t kTags = 32768;

void check_tensor(const at::Tensor& tensor, const char* name) {
  VIXEN_CHECK(tensor.defined() && tensor.device().is_cpu() && tensor.is_contiguous(),
              "{}: a contiguous CPU tensor is needed", name);
}

void check_sum_type(at::ScalarType type, const char* name) {
  VIXEN_CHECK(type == at::kFloat || type == at::kDouble || type == at::kBFloat16 || type == at::kHalf ||
                  type == at::kInt || type == at::kLong,
              "{} of {}", name, at::toString(type));
}

// The sum in rank order of what at least two ranks gave; narrow types are summed in float32, and stay in it.
template <typename PartOf>
at::Tensor sum_in_rank_order(int ranks, PartOf part_of) {
  const auto part = [&](int rank) {
    const at::Tensor values = part_of(rank);
    const bool narrow_type = values.scalar_type() == at::kBFloat16 || values.scalar_type() == at::kHalf;
    return narrow_type ? values.to(at::kFloat) : values;
  };
  at::Tensor sum = at::add(part(0), part(1));
  for (int rank = 2; rank < ranks; ++rank) sum.add_(part(rank));
  return sum;
}

class MpiCommunicator;

// One sum over ranks in flight: the first piece's slices travel from start() on, the rest is done by wait().
class MpiSum final : public CommHandle {
 public:
  MpiSum(MpiCommunicator& comm, at::Tensor tensor);
  void wait() override;

 private:
  bool small() const { return flat_.numel() <= kSmallSum; }
  void start_piece();   // posts the slices of the piece that begins at begin_
  void finish_piece();  // sums, and hands the sums round

  MpiCommunicator& comm_;
  at::Tensor flat_;   // [n]
  at::Tensor piece_;  // [m] of flat_
  at::Tensor parts_;  // [W, slice] as they arrive; the own row is not used
  RowRange slice_;    // of the piece: what this rank sums
  int64_t begin_ = 0;
  int tag_;
  std::string name_;
  std::unique_ptr<MpiTransfer> transfer_;
};

class MpiCommunicator final : public Communicator {
 public:
  MpiCommunicator(const Patience& patience, int ranks_a_node) : patience_(patience) {
    VIXEN_MPI(MPI_Comm_dup(MPI_COMM_WORLD, &comm_));
    VIXEN_MPI(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN));
    VIXEN_MPI(MPI_Comm_rank(comm_, &rank_));
    VIXEN_MPI(MPI_Comm_size(comm_, &world_size_));
    nodes_ = ranks_a_node > 0 ? successive_nodes(ranks_a_node) : nodes_of_mpi();
  }
  ~MpiCommunicator() override {
    // MPI_Comm_free is collective and would wait for peers that an exception may have taken elsewhere.
    if (std::uncaught_exceptions() > 0) return;
    const std::lock_guard lock(mpi_mutex());
    if (MPI_Comm_free(&comm_) != MPI_SUCCESS) spdlog::error("MPI_Comm_free failed");
  }
  MpiCommunicator(const MpiCommunicator&) = delete;
  MpiCommunicator& operator=(const MpiCommunicator&) = delete;

  int rank() const override { return rank_; }
  int world_size() const override { return world_size_; }
  at::Device device() const override { return at::Device(at::kCPU); }
  std::span<const int> nodes() const override { return nodes_; }

  void all_reduce_sum(at::Tensor tensor) override { all_reduce_sum_async(std::move(tensor))->wait(); }

  std::unique_ptr<CommHandle> all_reduce_sum_async(at::Tensor tensor) override {
    check_tensor(tensor, "all_reduce_sum");
    return std::make_unique<MpiSum>(*this, std::move(tensor));
  }

  at::Tensor all_gather_rows(const at::Tensor& local, std::span<const int64_t> rows) override {
    check_tensor(local, "all_gather_rows");
    VIXEN_CHECK(
        std::ssize(rows) == world_size_ && local.dim() >= 1 && rows[static_cast<size_t>(rank_)] == local.size(0),
        "all_gather_rows: {} local rows on rank {}, counts [{}]", local.dim() ? local.size(0) : 0, rank_,
        fmt::join(rows, ", "));
    if (world_size_ == 1) return local;
    const auto width = row_bytes(local);
    at::Tensor out = empty_rows_like(local, std::accumulate(rows.begin(), rows.end(), int64_t{0}));
    const int tag = next_tag();
    MpiTransfer transfer = begin("all_gather_rows");
    transfer.keep(local);
    transfer.keep(out);
    char* target = bytes_of(out);
    for (int peer = 0; peer < world_size_; ++peer) {
      const auto bytes = static_cast<size_t>(rows[static_cast<size_t>(peer)] * width);
      if (peer == rank_) {
        if (bytes) std::memcpy(target, bytes_of(local), bytes);
      } else {
        transfer.receive(target, bytes, peer, tag);
      }
      target += bytes;
    }
    for (int step = 1; step < world_size_; ++step) {
      transfer.send(bytes_of(local), static_cast<size_t>(local.size(0) * width), (rank_ + step) % world_size_, tag);
    }
    transfer.wait();
    return out;
  }

  at::Tensor reduce_scatter_rows(const at::Tensor& tensor, std::span<const int64_t> rows) override {
    check_tensor(tensor, "reduce_scatter_rows");
    check_sum_type(tensor.scalar_type(), "reduce_scatter_rows");
    VIXEN_CHECK(std::ssize(rows) == world_size_ && tensor.dim() >= 1 &&
                    std::accumulate(rows.begin(), rows.end(), int64_t{0}) == tensor.size(0),
                "reduce_scatter_rows: {} rows, counts [{}]", tensor.dim() ? tensor.size(0) : 0, fmt::join(rows, ", "));
    if (world_size_ == 1) return tensor;
    const c10::NoGradGuard no_gradient;
    const int64_t width = row_bytes(tensor), row_elements = width / static_cast<int64_t>(tensor.element_size());
    std::vector<int64_t> first(1, 0);  // of each rank's rows
    first.reserve(rows.size() + 1);
    for (const int64_t n : rows) first.push_back(first.back() + n);
    at::Tensor out = empty_rows_like(tensor, rows[static_cast<size_t>(rank_)]);
    if (width == 0) return out;
    // A piece holds some rows of every rank: what arrives, one part a rank, stays within kSumPiece elements.
    const int64_t piece_rows = std::max<int64_t>(1, kSumPiece / (row_elements * world_size_));
    const int64_t most = *std::max_element(rows.begin(), rows.end());
    const int tag = next_tag();
    const std::string name = next_name("reduce_scatter_rows");
    for (int64_t begin = 0; begin < most; begin += piece_rows) {
      const auto slice_of = [&](int rank) {
        const int64_t n = rows[static_cast<size_t>(rank)];
        return RowRange{std::min(begin, n), std::min(begin + piece_rows, n)};
      };
      const auto rows_from = [&](int rank) {
        return tensor.narrow(0, first[static_cast<size_t>(rank)] + slice_of(rank).begin, slice_of(rank).size());
      };
      const RowRange own = slice_of(rank_);
      std::vector<at::Tensor> parts;
      parts.reserve(static_cast<size_t>(world_size_));
      const auto transfer = begin_owned(name);
      transfer->keep(tensor);
      for (int peer = 0; peer < world_size_; ++peer) {
        parts.push_back(peer == rank_ ? rows_from(rank_) : empty_rows_like(tensor, own.size()));
        if (peer == rank_) continue;
        transfer->keep(parts.back());
        transfer->receive(bytes_of(parts.back()), static_cast<size_t>(own.size() * width), peer, tag);
      }
      for (int step = 1; step < world_size_; ++step) {
        const int peer = (rank_ + step) % world_size_;
        transfer->send(bytes_of(rows_from(peer)), static_cast<size_t>(slice_of(peer).size() * width), peer, tag);
      }
      transfer->wait();
      if (own.size() > 0)
        out.narrow(0, own.begin, own.size()).copy_(sum_in_rank_order(world_size_, [&](int rank) {
          return parts[static_cast<size_t>(rank)];
        }));
    }
    return out;
  }

  at::Tensor all_to_all_rows(const at::Tensor& send, std::span<const int64_t> send_rows,
                             std::span<const int64_t> receive_rows) override {
    check_tensor(send, "all_to_all_rows");
    VIXEN_CHECK(std::ssize(send_rows) == world_size_ && std::ssize(receive_rows) == world_size_ && send.dim() >= 1 &&
                    std::accumulate(send_rows.begin(), send_rows.end(), int64_t{0}) == send.size(0) &&
                    send_rows[static_cast<size_t>(rank_)] == receive_rows[static_cast<size_t>(rank_)],
                "all_to_all_rows: {} rows, to ranks [{}], from ranks [{}]", send.dim() ? send.size(0) : 0,
                fmt::join(send_rows, ", "), fmt::join(receive_rows, ", "));
    if (world_size_ == 1) return send;
    const auto width = row_bytes(send);
    at::Tensor out = empty_rows_like(send, std::accumulate(receive_rows.begin(), receive_rows.end(), int64_t{0}));
    const int tag = next_tag();
    MpiTransfer transfer = begin("all_to_all_rows");
    transfer.keep(send);
    transfer.keep(out);
    std::vector<char*> source(static_cast<size_t>(world_size_));
    char* from = bytes_of(send);
    for (size_t peer = 0; peer < source.size(); ++peer) {
      source[peer] = from;
      from += send_rows[peer] * width;
    }
    char* target = bytes_of(out);
    for (int peer = 0; peer < world_size_; ++peer) {
      const auto bytes = static_cast<size_t>(receive_rows[static_cast<size_t>(peer)] * width);
      if (peer == rank_) {
        if (bytes) std::memcpy(target, source[static_cast<size_t>(peer)], bytes);
      } else {
        transfer.receive(target, bytes, peer, tag);
      }
      target += bytes;
    }
    for (int step = 1; step < world_size_; ++step) {
      const auto peer = static_cast<size_t>((rank_ + step) % world_size_);
      transfer.send(source[peer], static_cast<size_t>(send_rows[peer] * width), static_cast<int>(peer), tag);
    }
    transfer.wait();
    return out;
  }

  void broadcast(at::Tensor tensor, int root) override {
    check_tensor(tensor, "broadcast");
    if (world_size_ == 1) return;
    MpiTransfer transfer = begin("broadcast");
    transfer.keep(tensor);
    broadcast_bytes(transfer, bytes_of(tensor), static_cast<size_t>(tensor.nbytes()), root);
    transfer.wait();
  }

  void barrier() override {
    if (world_size_ == 1) return;
    MpiTransfer transfer = begin("barrier");
    MPI_Request request;
    VIXEN_MPI(MPI_Ibarrier(comm_, &request));
    transfer.add(request);
    transfer.wait();
  }

  int64_t sum_host(int64_t value) override {
    const auto values = gather_values(value, "sum_host");
    return std::accumulate(values.begin(), values.end(), int64_t{0});
  }
  double sum_host(double value) override {
    const auto values = gather_values(value, "sum_host");
    return std::accumulate(values.begin(), values.end(), 0.0);
  }
  int64_t max_host(int64_t value) override {
    const auto values = gather_values(value, "max_host");
    return *std::max_element(values.begin(), values.end());
  }
  double max_host(double value) override {
    double most = -std::numeric_limits<double>::infinity();
    for (const double other : gather_values(value, "max_host")) {
      if (!(other <= most)) most = other;  // a NaN is taken ...
      if (most != most) return most;       // ... and kept
    }
    return most;
  }
  std::unique_ptr<HostValue> max_host_async(int64_t value) override {
    return std::make_unique<Maximum>(gather_async(value, "max_host_async"));
  }
  std::vector<int64_t> all_gather_host(int64_t value) override { return gather_values(value, "all_gather_host"); }

  std::vector<int64_t> all_to_all_host(std::span<const int64_t> counts) override {
    VIXEN_CHECK(std::ssize(counts) == world_size_, "all_to_all_host: {} counts for {} ranks", counts.size(),
                world_size_);
    std::vector<int64_t> values(counts.begin(), counts.end());
    if (world_size_ == 1) return values;
    auto sent = std::make_shared<std::vector<int64_t>>(values);
    auto received = std::make_shared<std::vector<int64_t>>(std::move(values));
    MpiTransfer transfer = begin("all_to_all_host");
    transfer.keep(sent);
    transfer.keep(received);
    MPI_Request request;
    VIXEN_MPI(MPI_Ialltoall(sent->data(), 1, MPI_INT64_T, received->data(), 1, MPI_INT64_T, comm_, &request));
    transfer.add(request);
    transfer.wait();
    return std::move(*received);
  }

  std::vector<int64_t> all_to_all_host(std::span<const int64_t> values, std::span<const int64_t> send_counts,
                                       std::span<const int64_t> receive_counts) override {
    // all_to_all_rows keeps what it sends while a peer that failed may still read it: a copy, not the caller's.
    at::Tensor sent = at::empty({std::ssize(values)}, at::kLong);
    std::copy(values.begin(), values.end(), sent.data_ptr<int64_t>());
    const at::Tensor received = all_to_all_rows(sent, send_counts, receive_counts);
    const int64_t* first = received.const_data_ptr<int64_t>();
    return {first, first + received.numel()};
  }

  std::string broadcast_host(const std::string& bytes, int root) override {
    if (world_size_ == 1) return bytes;
    const auto sizes = gather_values(std::ssize(bytes), "broadcast_host");
    auto buffer = std::make_shared<std::string>(rank_ == root ? bytes : std::string());
    buffer->resize(static_cast<size_t>(sizes[static_cast<size_t>(root)]));
    MpiTransfer transfer = begin("broadcast_host");
    transfer.keep(buffer);
    broadcast_bytes(transfer, buffer->data(), buffer->size(), root);
    transfer.wait();
    return std::move(*buffer);
  }

  std::vector<std::string> all_gather_host(const std::string& bytes) override {
    if (world_size_ == 1) return {bytes};
    const auto sizes = gather_values(std::ssize(bytes), "all_gather_host");
    auto all = std::make_shared<std::vector<std::string>>(static_cast<size_t>(world_size_));
    const int tag = next_tag();
    MpiTransfer transfer = begin("all_gather_host");
    transfer.keep(all);
    for (size_t peer = 0; peer < all->size(); ++peer) {
      std::string& text = (*all)[peer];
      if (static_cast<int>(peer) == rank_) {
        text = bytes;
      } else {
        text.resize(static_cast<size_t>(sizes[peer]));
        transfer.receive(text.data(), text.size(), static_cast<int>(peer), tag);
      }
    }
    const std::string& own = (*all)[static_cast<size_t>(rank_)];
    for (int step = 1; step < world_size_; ++step)
      transfer.send(own.data(), own.size(), (rank_ + step) % world_size_, tag);
    transfer.wait();
    return std::move(*all);
  }

  /// A transfer named after the collective and its place in the order of collectives, which all ranks share.
  MpiTransfer begin(const char* name) { return {comm_, fmt::format("{} #{}", name, ++collectives_), patience_}; }
  std::unique_ptr<MpiTransfer> begin_owned(const std::string& name) {
    return std::make_unique<MpiTransfer>(comm_, name, patience_);
  }
  std::string next_name(const char* name) { return fmt::format("{} #{}", name, ++collectives_); }
  int next_tag() { return static_cast<int>(tag_++ % kTags); }

 private:
  std::vector<int> successive_nodes(int ranks_a_node) const {
    std::vector<int> nodes(static_cast<size_t>(world_size_));
    for (int rank = 0; rank < world_size_; ++rank) nodes[static_cast<size_t>(rank)] = rank / ranks_a_node;
    return nodes;
  }

  std::vector<int> nodes_of_mpi() {
    MPI_Comm node = MPI_COMM_NULL;
    VIXEN_MPI(MPI_Comm_split_type(comm_, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &node));
    int first_rank = rank_;  // of the node's
    VIXEN_MPI(MPI_Bcast(&first_rank, 1, MPI_INT, 0, node));
    VIXEN_MPI(MPI_Comm_free(&node));
    std::vector<int> nodes;
    std::vector<int64_t> first_ranks;  // of the nodes so far
    for (const int64_t first : gather_values(int64_t{first_rank}, "nodes")) {
      const auto known = std::find(first_ranks.begin(), first_ranks.end(), first);
      nodes.push_back(static_cast<int>(known - first_ranks.begin()));
      if (known == first_ranks.end()) first_ranks.push_back(first);
    }
    return nodes;
  }

  void broadcast_bytes(MpiTransfer& transfer, char* data, size_t bytes, int root) {
    VIXEN_CHECK(root >= 0 && root < world_size_, "broadcast from rank {} of {}", root, world_size_);
    for (size_t first = 0; first < bytes; first += MpiTransfer::kPieceBytes) {
      const int count = static_cast<int>(std::min(MpiTransfer::kPieceBytes, bytes - first));
      MPI_Request request;
      VIXEN_MPI(MPI_Ibcast(data + first, count, MPI_BYTE, root, comm_, &request));
      transfer.add(request);
    }
  }

  // A value of each rank, on its way to all.
  template <typename Value>
  struct Gathering {
    std::shared_ptr<std::vector<Value>> all;  // [W]
    std::unique_ptr<MpiTransfer> transfer;    // null: all are there

    std::vector<Value> wait() {
      if (transfer) transfer->wait();
      return std::move(*all);
    }
  };
  template <typename Value>
  Gathering<Value> gather_async(Value value, const char* name) {
    static_assert(sizeof(Value) == 8);
    Gathering<Value> gathering{std::make_shared<std::vector<Value>>(static_cast<size_t>(world_size_), value), nullptr};
    if (world_size_ == 1) return gathering;
    auto own = std::make_shared<Value>(value);
    gathering.transfer = begin_owned(next_name(name));
    gathering.transfer->keep(own);
    gathering.transfer->keep(gathering.all);
    MPI_Request request;
    VIXEN_MPI(MPI_Iallgather(own.get(), 8, MPI_BYTE, gathering.all->data(), 8, MPI_BYTE, comm_, &request));
    gathering.transfer->add(request);
    return gathering;
  }
  template <typename Value>
  std::vector<Value> gather_values(Value value, const char* name) {
    return gather_async(value, name).wait();
  }

  class Maximum final : public HostValue {
   public:
    explicit Maximum(Gathering<int64_t> values) : values_(std::move(values)) {}
    int64_t get() override {
      const auto all = values_.wait();
      return *std::max_element(all.begin(), all.end());
    }

   private:
    Gathering<int64_t> values_;
  };

  MPI_Comm comm_ = MPI_COMM_NULL;
  int rank_ = 0, world_size_ = 1;
  std::vector<int> nodes_;
  Patience patience_;
  int64_t tag_ = 0, collectives_ = 0;
};

MpiSum::MpiSum(MpiCommunicator& comm, at::Tensor tensor) : comm_(comm), flat_(tensor.view({-1})), tag_(0) {
  check_sum_type(flat_.scalar_type(), "all_reduce_sum");
  if (comm_.world_size() == 1) {
    begin_ = flat_.numel();
    return;
  }
  name_ = comm_.next_name("all_reduce_sum");
  // Two tags: slices to be summed, and sums. Taken now, so that they do not depend on when wait() is called.
  tag_ = comm_.next_tag();
  comm_.next_tag();
  if (flat_.numel() > 0) start_piece();
}

void MpiSum::start_piece() {
  const int ranks = comm_.world_size(), own = comm_.rank();
  const int64_t length = std::min(kSumPiece, flat_.numel() - begin_);
  piece_ = flat_.narrow(0, begin_, length);
  const auto slice_of = [&](int rank) { return small() ? RowRange{0, length} : batch_slice(length, rank, ranks); };
  slice_ = slice_of(own);
  const auto element = static_cast<int64_t>(flat_.element_size());
  parts_ = at::empty({ranks, slice_.size()}, flat_.options());
  transfer_ = comm_.begin_owned(name_);
  transfer_->keep(flat_);
  transfer_->keep(parts_);
  for (int peer = 0; peer < ranks; ++peer) {
    if (peer == own) continue;
    transfer_->receive(bytes_of(parts_) + peer * slice_.size() * element, static_cast<size_t>(slice_.size() * element),
                       peer, tag_);
  }
  for (int step = 1; step < ranks; ++step) {
    const int peer = (own + step) % ranks;
    const RowRange slice = slice_of(peer);
    transfer_->send(bytes_of(piece_) + slice.begin * element, static_cast<size_t>(slice.size() * element), peer, tag_);
  }
}

void MpiSum::finish_piece() {
  const int ranks = comm_.world_size(), own = comm_.rank();
  transfer_->wait();
  at::Tensor target = piece_.narrow(0, slice_.begin, slice_.size());
  target.copy_(sum_in_rank_order(ranks, [&](int rank) { return rank == own ? target : parts_.select(0, rank); }));
  if (small()) return;

  const auto element = static_cast<int64_t>(flat_.element_size());
  for (int peer = 0; peer < ranks; ++peer) {
    if (peer == own) continue;
    const RowRange slice = batch_slice(piece_.numel(), peer, ranks);
    transfer_->receive(bytes_of(piece_) + slice.begin * element, static_cast<size_t>(slice.size() * element), peer,
                       tag_ + 1);
  }
  for (int step = 1; step < ranks; ++step) {
    transfer_->send(bytes_of(target), static_cast<size_t>(slice_.size() * element), (own + step) % ranks, tag_ + 1);
  }
  transfer_->keep(flat_);
  transfer_->wait();
}

void MpiSum::wait() {
  const c10::NoGradGuard no_gradient;
  while (begin_ < flat_.numel()) {
    if (!piece_.defined()) start_piece();
    finish_piece();
    begin_ += piece_.numel();
    piece_.reset();
  }
  transfer_.reset();
  parts_.reset();
}

}  // namespace

std::unique_ptr<Communicator> make_mpi_communicator(const Patience& patience, int ranks_a_node) {
  return std::make_unique<MpiCommunicator>(patience, ranks_a_node);
}

}  // namespace vixen

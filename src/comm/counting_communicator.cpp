#include "comm/counting_communicator.hpp"

#include "comm/tensor_rows.hpp"

namespace vixen {
namespace {

int64_t element_bytes(const at::Tensor& tensor) {
  return static_cast<int64_t>(tensor.element_size());
}

}  // namespace

void CountingCommunicator::all_reduce_sum(at::Tensor tensor) {
  counts_.add(Collective::kAllReduceSum, all_reduce_bytes(tensor.numel(), element_bytes(tensor), rank(), world_size()));
  counted_->all_reduce_sum(std::move(tensor));
}

std::unique_ptr<CommHandle> CountingCommunicator::all_reduce_sum_async(at::Tensor tensor) {
  counts_.add(Collective::kAllReduceSum, all_reduce_bytes(tensor.numel(), element_bytes(tensor), rank(), world_size()));
  return counted_->all_reduce_sum_async(std::move(tensor));
}

at::Tensor CountingCommunicator::all_gather_rows(const at::Tensor& local, std::span<const int64_t> rows) {
  counts_.add(Collective::kAllGatherRows, all_gather_bytes(local.size(0), row_bytes(local), world_size()));
  return counted_->all_gather_rows(local, rows);
}

at::Tensor CountingCommunicator::reduce_scatter_rows(const at::Tensor& tensor, std::span<const int64_t> rows) {
  counts_.add(Collective::kReduceScatterRows, reduce_scatter_bytes(rows, row_bytes(tensor), rank()));
  return counted_->reduce_scatter_rows(tensor, rows);
}

at::Tensor CountingCommunicator::all_to_all_rows(const at::Tensor& send, std::span<const int64_t> send_rows,
                                                 std::span<const int64_t> receive_rows) {
  counts_.add(Collective::kAllToAllRows, all_to_all_bytes(send_rows, row_bytes(send), rank()));
  return counted_->all_to_all_rows(send, send_rows, receive_rows);
}

void CountingCommunicator::broadcast(at::Tensor tensor, int root) {
  counts_.add(Collective::kBroadcast,
              broadcast_bytes(static_cast<int64_t>(tensor.nbytes()), root, rank(), world_size()));
  counted_->broadcast(std::move(tensor), root);
}

void CountingCommunicator::barrier() {
  counts_.add(Collective::kBarrier, 0);
  counted_->barrier();
}

int64_t CountingCommunicator::sum_host(int64_t value) {
  add_value(Collective::kSumHost);
  return counted_->sum_host(value);
}

double CountingCommunicator::sum_host(double value) {
  add_value(Collective::kSumHost);
  return counted_->sum_host(value);
}

int64_t CountingCommunicator::max_host(int64_t value) {
  add_value(Collective::kMaxHost);
  return counted_->max_host(value);
}

double CountingCommunicator::max_host(double value) {
  add_value(Collective::kMaxHost);
  return counted_->max_host(value);
}

std::unique_ptr<HostValue> CountingCommunicator::max_host_async(int64_t value) {
  add_value(Collective::kMaxHost);
  return counted_->max_host_async(value);
}

std::vector<int64_t> CountingCommunicator::all_gather_host(int64_t value) {
  add_value(Collective::kAllGatherHost);
  return counted_->all_gather_host(value);
}

std::vector<int64_t> CountingCommunicator::all_to_all_host(std::span<const int64_t> counts) {
  add_value(Collective::kAllToAllHost);
  return counted_->all_to_all_host(counts);
}

std::vector<int64_t> CountingCommunicator::all_to_all_host(std::span<const int64_t> values,
                                                           std::span<const int64_t> send_counts,
                                                           std::span<const int64_t> receive_counts) {
  counts_.add(Collective::kAllToAllHost, all_to_all_bytes(send_counts, sizeof(int64_t), rank()));
  return counted_->all_to_all_host(values, send_counts, receive_counts);
}

std::string CountingCommunicator::broadcast_host(const std::string& bytes, int root) {
  counts_.add(Collective::kBroadcastHost, broadcast_host_bytes(std::ssize(bytes), root, rank(), world_size()));
  return counted_->broadcast_host(bytes, root);
}

std::vector<std::string> CountingCommunicator::all_gather_host(const std::string& bytes) {
  counts_.add(Collective::kAllGatherHost, host_text_bytes(std::ssize(bytes), world_size()));
  return counted_->all_gather_host(bytes);
}

}  // namespace vixen

#include "comm/node_array.hpp"

#include <ATen/ATen.h>
#include <c10/core/ScalarTypeToTypeMeta.h>

#include "base/check.hpp"
#include "comm/on_root.hpp"

namespace vixen {
namespace {

// Rows that all ranks together send at a time.
constexpr int64_t kRowsAtATime = int64_t{8} << 20;

template <typename T>
at::ScalarType scalar_type() {
  return c10::CppTypeToScalarType<T>::value;
}

template <typename T>
at::Tensor view_of(const T* values, int64_t n) {
  return at::from_blob(const_cast<T*>(values), {n}, scalar_type<T>());
}

}  // namespace

template <typename T>
NodeArray<T> NodeArray<T>::filled(int64_t n, Communicator& comm, const std::function<void(std::span<T>)>& fill) {
  const NodeMemory memory(n * static_cast<int64_t>(sizeof(T)), comm);
  auto* values = reinterpret_cast<T*>(memory.data().get());
  on_every_rank(comm, [&] {
    if (memory.writes()) fill({values, static_cast<size_t>(n)});
  });
  return NodeArray(memory, n);
}

template <typename T>
NodeArray<T> NodeArray<T>::zeros(int64_t n, Communicator& comm) {
  return NodeArray(NodeMemory(n * static_cast<int64_t>(sizeof(T)), comm), n);
}

template <typename T>
NodeArray<T> NodeArray<T>::assembled(std::span<const T> local, const RowShards& shards, Communicator& comm) {
  const int ranks = comm.world_size();
  VIXEN_CHECK(std::ssize(local) == shards.range(comm.rank()).size(), "{} rows on rank {}, its share is {}",
              local.size(), comm.rank(), shards.range(comm.rank()).size());
  const NodeMemory memory(shards.n_rows() * static_cast<int64_t>(sizeof(T)), comm);
  auto* values = reinterpret_cast<T*>(memory.data().get());
  const int64_t step = std::max<int64_t>(1, kRowsAtATime / ranks);
  for (int64_t first = 0; first < shards.max_rows(); first += step) {
    const auto rows_of = [&](int rank) { return std::clamp<int64_t>(shards.range(rank).size() - first, 0, step); };
    const int64_t own = rows_of(comm.rank());
    std::vector<int64_t> send(static_cast<size_t>(ranks), 0), receive(static_cast<size_t>(ranks), 0);
    for (const int writer : memory.writers()) send[static_cast<size_t>(writer)] = own;
    if (memory.writes())
      for (int rank = 0; rank < ranks; ++rank) receive[static_cast<size_t>(rank)] = rows_of(rank);
    const auto piece = view_of(local.data() + std::min<int64_t>(first, std::ssize(local)), own);
    const auto sent = piece.repeat({std::ssize(memory.writers())}).to(comm.device());
    const auto all = comm.all_to_all_rows(sent, send, receive).cpu();
    if (!memory.writes()) continue;
    const T* from = all.template const_data_ptr<T>();
    for (int rank = 0; rank < ranks; ++rank) {
      std::copy_n(from, rows_of(rank), values + shards.range(rank).begin + first);
      from += rows_of(rank);
    }
  }
  comm.barrier();  // nobody reads before all is there
  return NodeArray(memory, shards.n_rows());
}

template <typename T>
at::Tensor NodeArray<T>::tensor() const {
  auto* values = const_cast<T*>(values_.get());
  return at::from_blob(
      values, {size_}, [kept = values_](void*) {}, scalar_type<T>());
}

NodeArray<int32_t> shared_ints(const at::Tensor& values, Communicator& comm) {
  return NodeArray<int32_t>::filled(
      values.numel(), comm, [&](std::span<int32_t> shared) { view_of(shared.data(), values.numel()).copy_(values); });
}

template class NodeArray<uint8_t>;
template class NodeArray<int32_t>;
template class NodeArray<int64_t>;
template class NodeArray<double>;

}  // namespace vixen

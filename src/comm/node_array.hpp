// Arrays that every rank reads and none changes, kept once a node.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "comm/communicator.hpp"
#include "comm/node_memory.hpp"
#include "shard/row_shards.hpp"

namespace vixen {

/// n values of a plain type. Copies share the values.
template <typename T>
class NodeArray {
 public:
  NodeArray() = default;
  /// This process's own.
  NodeArray(std::vector<T> values) : size_(std::ssize(values)) {
    const auto kept = std::make_shared<std::vector<T>>(std::move(values));
    values_ = {kept, kept->data()};
  }

  /// `fill` writes the values, the same wherever it is called: on one rank of each node (comm/node_memory.hpp). A
  /// UserError of one rank is every rank's. Collective.
  static NodeArray filled(int64_t n, Communicator& comm, const std::function<void(std::span<T>)>& fill);

  /// n zeros. Collective.
  static NodeArray zeros(int64_t n, Communicator& comm);

  /// The whole list of which every rank has the rows that `shards` deals to it. Collective.
  static NodeArray assembled(std::span<const T> local, const RowShards& shards, Communicator& comm);

  int64_t size() const { return size_; }
  const T& operator[](int64_t i) const { return values_.get()[i]; }
  std::span<const T> view() const { return {values_.get(), static_cast<size_t>(size_)}; }
  operator std::span<const T>() const { return view(); }
  /// [n] on the host, sharing the values: to be read only.
  at::Tensor tensor() const;

 private:
  NodeArray(const NodeMemory& memory, int64_t n)
      : values_(memory.data(), reinterpret_cast<const T*>(memory.data().get())), size_(n) {}

  std::shared_ptr<const T> values_;
  int64_t size_ = 0;
};

/// An int32 or int64 tensor [n] of the host that every rank has, as int32, kept once a node. Collective.
NodeArray<int32_t> shared_ints(const at::Tensor& values, Communicator& comm);

extern template class NodeArray<uint8_t>;
extern template class NodeArray<int32_t>;
extern template class NodeArray<int64_t>;
extern template class NodeArray<double>;

}  // namespace vixen

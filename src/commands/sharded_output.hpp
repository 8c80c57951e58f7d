// HDF5 matrices whose rows are distributed over ranks: every rank writes its own.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <map>
#include <string>

#include "comm/communicator.hpp"
#include "data/hdf5_matrix.hpp"
#include "shard/row_shards.hpp"

namespace vixen {

/// Bytes of a ranking of `rows` x `k` on disk: an int64 id and a float32 score a place. UserError naming the option
/// that gave k where that is more than can be counted.
int64_t ranked_bytes(const std::string& option, int64_t rows, int64_t k);

/// One dataset of the file: this rank's rows [local rows, columns] and the dtype on disk.
struct ShardedMatrix {
  at::Tensor local;
  at::ScalarType dtype;
  Floats floats = Floats::kFinite;
};

/// Writes a file of datasets that all are dealt by `shards`, and string attributes of its root. Atomic; a failure of
/// one rank is a UserError on every rank. Memory: a block of a rank. Collective.
void write_sharded(const std::filesystem::path& path, const std::map<std::string, ShardedMatrix>& datasets,
                   const RowShards& shards, Communicator& comm, const std::map<std::string, std::string>& attributes);

}  // namespace vixen

// One file whose parts all ranks write.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "comm/communicator.hpp"
#include "data/hdf5_matrix.hpp"
#include "shard/row_shards.hpp"

namespace vixen {

/// Gives this rank's next piece, or nothing when there is no more.
using NextPiece = std::function<std::optional<FilePiece>()>;

/// Writes every rank's pieces into the file `temporary`, which rank 0 has made (the argument of the others is not
/// looked at), and fsyncs it. Errors name `path`. Ranks write by themselves; those on nodes that do not see the file
/// hand their pieces to rank 0, one at a time. A UserError of one rank is every rank's. Memory: a piece of a rank.
/// Collective.
void write_pieces(const std::filesystem::path& path, const std::filesystem::path& temporary, Communicator& comm,
                  const NextPiece& next);

/// Writes `header` and a text of every row of a table that is dealt by `shards`, in the order of rows, atomically.
/// text_of appends the text of this rank's row i (0-based) and is called twice a row. A UserError of one rank is every
/// rank's. Memory: the text of some rows, and a number for each such part. Collective.
void write_text_rows(const std::filesystem::path& path, const std::string& header, const RowShards& shards,
                     Communicator& comm, const std::function<void(int64_t i, std::string& text)>& text_of);

}  // namespace vixen

// Rows of all ranks to one file.
#include "commands/sharded_output.hpp"

#include <ATen/ATen.h>

#include <memory>
#include <optional>
#include <vector>

#include "base/check.hpp"
#include "base/progress.hpp"
#include "comm/on_root.hpp"
#include "commands/shared_file.hpp"

namespace vixen {
namespace {

constexpr int64_t kRowsPerBlock = 16384;

}  // namespace

int64_t ranked_bytes(const std::string& option, int64_t rows, int64_t k) {
  constexpr int64_t kPlaceBytes = 12;
  int64_t bytes = 0;
  if (__builtin_mul_overflow(rows, k, &bytes) || __builtin_mul_overflow(bytes, kPlaceBytes, &bytes))
    fail_user("{} = {}: {} rankings of that length are more than any file holds", option, k, rows);
  return bytes;
}

void write_sharded(const std::filesystem::path& path, const std::map<std::string, ShardedMatrix>& datasets,
                   const RowShards& shards, Communicator& comm, const std::map<std::string, std::string>& attributes) {
  const Stage stage("write " + path.string());
  std::unique_ptr<MatrixWriter> writer;
  std::string layout_text;
  on_root(comm, [&] {
    writer = std::make_unique<MatrixWriter>(path, attributes);
    for (const auto& [name, matrix] : datasets)
      writer->add(name, shards.n_rows(), matrix.local.size(1), matrix.dtype, matrix.floats);
    layout_text = writer->layout().text();
  });
  const auto layout = MatrixLayout::parse(comm.broadcast_host(layout_text, 0));
  const RowRange own = shards.range(comm.rank());
  auto dataset = datasets.begin();
  int64_t first = 0;
  write_pieces(path, writer ? writer->temporary() : std::filesystem::path(), comm, [&]() -> std::optional<FilePiece> {
    if (first >= own.size()) {
      ++dataset;
      first = 0;
    }
    if (own.size() == 0 || dataset == datasets.end()) return std::nullopt;
    const int64_t rows = std::min(kRowsPerBlock, own.size() - first);
    const auto piece = layout.piece(dataset->first, own.begin + first, dataset->second.local.narrow(0, first, rows));
    first += rows;
    return piece;
  });
  on_root(comm, [&] { writer->close(); });
}

}  // namespace vixen

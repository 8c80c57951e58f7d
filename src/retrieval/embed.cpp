#include "retrieval/embed.hpp"

#include <ATen/ATen.h>

#include "base/check.hpp"
#include "comm/on_root.hpp"
#include "kernels/pooling.hpp"
#include "model/encode_pass.hpp"
#include "model/pack_options.hpp"

namespace vixen {
namespace {

/// unit [n, D]: rows of unit length. Weights were finite when they were read: what is not so now overflowed on the way.
void check_embeddings(const at::Tensor& unit, int64_t first_row, const Config& config) {
  const at::Tensor finite = unit.sum(1).isfinite();  // a NaN or infinity stays in the sum; of unit rows it is finite
  if (finite.all().item<bool>()) return;
  const auto row = finite.logical_not().nonzero()[0][0].item<int64_t>();
  fail_user("{}: the model's output for row {} is NaN or infinity: its weights overflow in {}", config.model.path,
            first_row + row, config.model.compute == Compute::kBfloat16 ? "bfloat16" : "float32");
}

}  // namespace

at::Tensor embed_shard(Encoder& encoder, const SequenceTable& table, const Config& config, const Dataset& dataset,
                       Communicator& comm, const std::string& progress_label) {
  return embed_part(encoder, table, {0, table.size()}, config, dataset, comm, progress_label);
}

at::Tensor embed_part(Encoder& encoder, const SequenceTable& table, RowRange rows, const Config& config,
                      const Dataset& dataset, Communicator& comm, const std::string& progress_label) {
  VIXEN_CHECK(rows.begin % RowShards::kBlockRows == 0, "a part from row {} on, expected a multiple of {}", rows.begin,
              RowShards::kBlockRows);
  EncodePassOptions options;
  options.pack = &table == &dataset.labels() ? pack_options(config, encoder, dataset)
                                             : query_pack_options(config, encoder, dataset);
  options.device = comm.device();
  options.prefetch = config.data.prefetch;
  if (comm.rank() == 0) options.progress_label = progress_label;
  const auto own = RowShards(rows.size(), comm.world_size()).range(comm.rank());
  const RowRange range{rows.begin + own.begin, rows.begin + own.end};
  auto unit = at::empty({range.size(), encoder.width()}, at::TensorOptions().dtype(at::kFloat).device(comm.device()));
  encode_blocks(encoder, table, dataset.images(), range, options, [&](int64_t first, const at::Tensor& h) {
    unit.narrow(0, first - range.begin, h.size(0)).copy_(normalize_rows(h).y);
  });
  on_every_rank(comm, [&] { check_embeddings(unit, range.begin, config); });
  return unit;
}

}  // namespace vixen

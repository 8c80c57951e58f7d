// vixen search: the k best rows of one HDF5 matrix for every row of another, both dealt to ranks by rows.
#include <ATen/ATen.h>

#include <nlohmann/json.hpp>

#include "base/check.hpp"
#include "base/file.hpp"
#include "base/lap.hpp"
#include "base/log.hpp"
#include "base/progress.hpp"
#include "base/standard_streams.hpp"
#include "base/text.hpp"
#include "base/version.hpp"
#include "comm/on_root.hpp"
#include "commands/commands.hpp"
#include "commands/common.hpp"
#include "commands/sharded_output.hpp"
#include "commands/text_table.hpp"
#include "config/keys.hpp"
#include "data/hdf5_matrix.hpp"
#include "device/device.hpp"
#include "retrieval/retriever.hpp"

namespace vixen {
namespace {

constexpr int64_t kReadRows = 65536;      // at a time: chunks of a compressed matrix are unpacked once or twice
constexpr int64_t kNormaliseRows = 4096;  // small enough that its float64 copies are kept by the allocator

struct Matrix {
  std::string name;
  std::unique_ptr<MatrixReader> reader;
  RowShards shards;
};

Matrix open_matrix(const std::string& key, const std::string& text, int world_size) {
  if (text.empty()) fail_user("--{} is missing: give an HDF5 file (FILE.h5 or FILE.h5:/dataset)", key);
  const MatrixPath path = parse_matrix_path(text, "/embeddings");
  Matrix matrix{path.file.string() + ":" + path.dataset, std::make_unique<MatrixReader>(path), {}};
  if (!at::isFloatingType(matrix.reader->dtype())) {
    fail_user("{}: holds {}, expected float16, float32 or float64", matrix.name, matrix.reader->type_name());
  }
  matrix.shards = RowShards(matrix.reader->rows(), world_size);
  return matrix;
}

at::Tensor or_one(const at::Tensor& divisor) {
  return divisor.masked_fill(divisor.eq(0), 1.0);  // a row of zeros stays so
}

/// Lengths of rows of float16 or float32 [n, D]: float64 [n], 1 for a row of zeros.
at::Tensor row_lengths(const at::Tensor& rows) {
  // Squares of these types' values stay in float64's range; its own may leave it.
  return or_one(at::linalg_vector_norm(rows.to(at::kDouble), 2, at::IntArrayRef{1}));
}

/// Rows of unit length, float32, from rows of any float type.
at::Tensor unit_rows(const at::Tensor& rows) {
  at::Tensor wide = rows.to(at::kDouble);
  if (rows.scalar_type() == at::kDouble) wide = wide / or_one(wide.abs().amax(1, /*keepdim=*/true));
  return (wide / row_lengths(wide).unsqueeze(1)).to(at::kFloat);
}

/// Whether rows of n x width and what the exact search lays beside them on a device find room there, with a tenth to
/// spare.
bool fits(const IndexConfig& config, int64_t n, int64_t width, int64_t row_bytes, at::Device device) {
  const auto free = free_bytes(device);
  if (!free) return true;
  const int64_t rows = n * width * row_bytes;
  return rows + index_kind(SearchMethod::kExact).planned_bytes(config, n, width, /*cpu=*/false) < *free / 10 * 9;
}

/// This rank's rows, as `home` says in the device's memory or in the host's. What the file holds in float16 stays so:
/// with `cosine` each row has its length beside it, and is divided where it is used, to the same float32 as here.
ScaledRows read_shard(const Matrix& matrix, const SearchConfig& config, TableHome home, Communicator& comm) {
  const bool cosine = config.cosine;
  const RowRange range = matrix.shards.range(comm.rank());
  const MatrixReader& reader = *matrix.reader;
  const bool narrow = reader.dtype() == at::kHalf;
  const bool divide = cosine && reader.columns() > 0;
  const at::Device device = comm.device();
  const bool streamed =
      !device.is_cpu() &&
      (home == TableHome::kHost ||
       (home == TableHome::kAuto && !fits(config, range.size(), reader.columns(), narrow ? 2 : 4, device)));
  at::Tensor rows, lengths;
  Stage stage("read " + matrix.name);
  on_every_rank(comm, [&] {
    rows =
        at::empty({range.size(), reader.columns()}, at::dtype(narrow ? at::kHalf : at::kFloat).pinned_memory(streamed));
    if (narrow && divide) lengths = at::empty({range.size()}, at::kDouble);
    for (int64_t begin = range.begin; begin < range.end; begin += kReadRows) {
      const RowRange block = {begin, std::min(range.end, begin + kReadRows)};
      const bool as_stored = narrow || divide;  // else checked as float32
      const at::Tensor read = as_stored ? reader.read(block, /*check_finite=*/true) : reader.read_float(block);
      at::Tensor to = rows.narrow(0, begin - range.begin, block.size());
      if (narrow || !divide) to.copy_(read);
      for (int64_t row = 0; divide && row < block.size(); row += kNormaliseRows) {
        const int64_t n = std::min(kNormaliseRows, block.size() - row);
        if (narrow) {
          lengths.narrow(0, begin - range.begin + row, n).copy_(row_lengths(read.narrow(0, row, n)));
        } else {
          to.narrow(0, row, n).copy_(unit_rows(read.narrow(0, row, n)));
        }
      }
    }
  });
  if (streamed) return ScaledRows::streamed(rows, lengths, device);
  return {rows.to(device), lengths.defined() ? lengths.to(device) : lengths};
}

}  // namespace

int search_command(const Config& config, MpiSession& session) {
  const auto comm = start_job(config, session);
  if (config.out.empty()) fail_user("--out is missing: give the HDF5 file to write");
  if (config.search.k < 1) fail_user("search.k = {}; expected at least 1", config.search.k);
  const int world_size = comm->world_size();
  const Matrix corpus = open_matrix("search.corpus", config.search.corpus, world_size);
  const Matrix queries = open_matrix("search.queries", config.search.queries, world_size);
  if (corpus.reader->columns() != queries.reader->columns()) {
    fail_user("{} has {} columns, {} has {}; expected the same width", queries.name, queries.reader->columns(),
              corpus.name, corpus.reader->columns());
  }

  on_root(*comm, [&] {
    check_room(config.out, ranked_bytes("search.k", queries.reader->rows(), config.search.k), "rankings");
  });
  const int64_t bytes_before = memory_use(comm->device()).peak_bytes;
  const Lap lap;
  const ScaledRows own_queries = read_shard(queries, config.search, TableHome::kDevice, *comm);
  const ScaledRows own_rows = read_shard(corpus, config.search, config.search.rows, *comm);
  const double load_seconds = comm->max_host(lap.total());

  log_cpus(config, session);
  Retriever retriever(own_rows, config.search, *comm);
  const TopK found = retriever.retrieve(own_queries.wide(0, own_queries.size()), config.search.k);
  const RetrievalReport& report = retriever.report();
  const double seconds = report.search_seconds;
  const int64_t peak_bytes = comm->max_host(memory_use(comm->device()).peak_bytes);
  write_sharded(
      config.out,
      {{"/indices", {found.ids, at::kLong}}, {"/scores", {found.scores, at::kFloat, Floats::kFiniteOrMinusInfinity}}},
      queries.shards, *comm, {{"created_by", created_by("search")}});

  if (comm->rank() == 0) {
    const auto m = static_cast<double>(queries.reader->rows());
    const double work = 2.0 * m * static_cast<double>(corpus.reader->rows() * corpus.reader->columns());
    const double rate = m / std::max(seconds, 1e-9), gflops = work / std::max(seconds, 1e-9) * 1e-9;
    // An approximate method skips products; what it did a second says nothing.
    print_out("{} queries x {} rows x {} columns, k {}: {:.3f} s, {:.0f} queries/s, {} (reading {:.1f} s)\n{}\n",
              with_commas(queries.reader->rows()), with_commas(corpus.reader->rows()), corpus.reader->columns(),
              config.search.k, seconds, rate,
              report.recall ? fmt::format("{:.2f}% of the exact answer", 100 * *report.recall)
                            : fmt::format("{:.1f} GFLOP/s", gflops),
              load_seconds, config.out);
    if (config.run.log_level == LogLevel::kDebug) {
      nlohmann::json line = {{"queries", queries.reader->rows()},
                             {"rows", corpus.reader->rows()},
                             {"columns", corpus.reader->columns()},
                             {"k", config.search.k},
                             {"method", index_kind(config.search.method).name},
                             {"prefilter", value_text(*find_key("search.prefilter"), config)},
                             {"ranks", world_size},
                             {"load_seconds", load_seconds},
                             {"build_seconds", report.build_seconds},
                             {"index", report.description},
                             {"index_bytes", report.index_bytes},
                             {"search_seconds", seconds},
                             {"queries_per_s", rate},
                             {"bytes_before_reading", bytes_before},
                             {"peak_bytes", peak_bytes}};
      if (report.recall) {
        line["recall"] = *report.recall;
        line["recall_queries"] = report.recall_queries;
      } else {
        line["gflop_per_s"] = gflops;
      }
      print_out("{}\n", line.dump());
    }
  }
  return 0;
}

}  // namespace vixen

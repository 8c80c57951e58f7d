// Hierarchical navigable small worlds (Malkov and Yashunin, arXiv:1603.09320) by FAISS: a graph whose nodes are the
// labels, walked greedily from its sparse layers down to the dense one.
#include <ATen/ATen.h>
#include <faiss/IndexHNSW.h>

#include <algorithm>
#include <limits>

#include "base/check.hpp"
#include "base/progress.hpp"
#include "search/faiss_index.hpp"
#include "search/scan_kernels.hpp"

namespace vixen {
namespace {

constexpr int64_t kAddRows = 4096;  // linked between two draws of the progress bar
constexpr int64_t kLeastEf = 64;

// Inner products by our kernels: FAISS's own, as distributions build it, know SSE only. A row and a query give the
// canonical score wherever they meet.
class CanonicalDistance : public faiss::FlatCodesDistanceComputer {
 public:
  explicit CanonicalDistance(const faiss::IndexFlat& rows)
      : faiss::FlatCodesDistanceComputer(rows.codes.data(), rows.code_size), d_(rows.d), dot_(scan_kernels().dot) {}
  void set_query(const float* query) override { query_ = query; }
  float distance_to_code(const uint8_t* code) override { return product(query_, row(code)); }
  float symmetric_dis(idx_t i, idx_t j) override {
    return product(row(codes + static_cast<size_t>(i) * code_size), row(codes + static_cast<size_t>(j) * code_size));
  }

 private:
  static const float* row(const uint8_t* code) { return reinterpret_cast<const float*>(code); }
  float product(const float* a, const float* b) const { return static_cast<float>(dot_(a, b, d_)); }

  const float* query_ = nullptr;
  int64_t d_;
  double (*dot_)(const float*, const float*, int64_t);
};

struct CanonicalFlat : faiss::IndexFlat {
  explicit CanonicalFlat(int64_t width) : faiss::IndexFlat(width, faiss::METRIC_INNER_PRODUCT) {}
  faiss::FlatCodesDistanceComputer* get_FlatCodesDistanceComputer() const override {
    return new CanonicalDistance(*this);
  }
};

class FaissHnswIndex : public FaissIndex {
 public:
  FaissHnswIndex(const IndexConfig& config, const ScaledRows& rows, int64_t first_id, bool show_progress)
      : FaissIndex(rows.size(), rows.width(), first_id),
        storage_(rows.width()),
        graph_(&storage_, static_cast<int>(config.hnsw_links)),
        ef_(config.hnsw_ef) {
    VIXEN_CHECK(rows.size() <= std::numeric_limits<int32_t>::max(), "{} rows in one index", rows.size());
    storage_.codes.reserve(static_cast<size_t>(rows.size() * rows.width()) * sizeof(float));
    graph_.hnsw.efConstruction = static_cast<int>(config.hnsw_ef_build);
    // Where threads link rows at the same time, the graph depends on who comes first.
    const OneThread alone;
    Progress progress("index", "labels", rows.size(), show_progress);
    for (int64_t first = 0; first < rows.size(); first += kAddRows) {
      const int64_t n = std::min(kAddRows, rows.size() - first);
      graph_.add(n, faiss_rows(rows, first, n, first_id).const_data_ptr<float>());
      progress.advance(n);
    }
  }

  int64_t bytes() const override {
    const auto& hnsw = graph_.hnsw;
    return rows() * width() * static_cast<int64_t>(sizeof(float)) +
           static_cast<int64_t>(hnsw.neighbors.size() * sizeof(hnsw.neighbors[0]) +
                                hnsw.offsets.size() * sizeof(hnsw.offsets[0]) +
                                hnsw.levels.size() * sizeof(hnsw.levels[0]));
  }

  std::string description() const override {
    return fmt::format("{} links a label ({} in the lowest layer), {} candidates while linking, {} while searching",
                       graph_.hnsw.nb_neighbors(1), graph_.hnsw.nb_neighbors(0), graph_.hnsw.efConstruction,
                       ef_ > 0 ? fmt::format("{}, at least k,", ef_) : fmt::format("2 k, at least {},", kLeastEf));
  }

 private:
  // FAISS 1.7.3 sizes its queue of candidates by k and by what the graph says, and not by the parameters of a call: all
  // candidates are asked for, the best k of them are kept.
  int64_t candidates(int64_t k) const override { return std::max(k, ef_ > 0 ? ef_ : std::max(2 * k, kLeastEf)); }

  void find(int64_t m, const float* queries, int64_t count, int64_t* found, float* scores) const override {
    faiss::SearchParametersHNSW parameters;
    parameters.efSearch = static_cast<int>(count);
    graph_.search(m, queries, count, scores, found, &parameters);
  }

  // Islands of the graph that a walk does not reach.
  void find_all(int64_t m, const float* queries, int64_t count, int64_t* found, float* scores) const override {
    storage_.search(m, queries, count, scores, found);
  }

  const float* exact_rows() const override { return storage_.get_xb(); }

  CanonicalFlat storage_;
  faiss::IndexHNSW graph_;
  int64_t ef_;
};

}  // namespace

std::unique_ptr<Index> make_faiss_hnsw_index(const IndexConfig& config, const ScaledRows& rows, int64_t first_id,
                                             bool show_progress) {
  return std::make_unique<FaissHnswIndex>(config, rows, first_id, show_progress);
}

int64_t faiss_hnsw_index_bytes(const IndexConfig& config, int64_t n, int64_t width, bool cpu) {
  // A copy of the rows, their links in the lowest layer, level and offset; one row in `links` has as many links above.
  return cpu ? n * (int64_t{sizeof(float)} * (width + 2 * config.hnsw_links + 1) + 12) : 0;
}

}  // namespace vixen

// Labels in the lists of their nearest centroid, each as a code of some bytes: a byte names one of 256 centroids for a
// few dimensions of what the list's centroid leaves. A query reads the lists that are nearest to it by tables, and the
// best of what it finds there are scored again by their rows.
#include "search/faiss_ivf_pq_index.hpp"

#include <ATen/ATen.h>
#include <faiss/IndexIVFPQ.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/check.hpp"
#include "base/progress.hpp"
#include "search/faiss_index.hpp"

namespace vixen {

IvfPqSizes ivf_pq_sizes(const IndexConfig& config, int64_t rows, int64_t width) {
  constexpr int64_t kPointsACentroid = 39;  // below, FAISS warns
  constexpr int64_t kLeastProbes = 16;
  if (config.pq_bytes > width)
    fail_user("search.pq_bytes = {}: labels are {} wide; expected at most that", config.pq_bytes, width);
  IvfPqSizes sizes;
  sizes.padded_width = width;
  if (rows < IvfPqSizes::kLeastRows) return sizes;
  const auto lists = config.nlist > 0 ? config.nlist : static_cast<int64_t>(4 * std::sqrt(static_cast<double>(rows)));
  sizes.lists = std::clamp<int64_t>(lists, 1, rows / kPointsACentroid);
  const auto probes = static_cast<int64_t>(2 * std::sqrt(static_cast<double>(sizes.lists)));
  sizes.probes = std::min(sizes.lists, config.nprobe > 0 ? config.nprobe : std::max(probes, kLeastProbes));
  sizes.code_bytes = config.pq_bytes > 0 ? config.pq_bytes : std::max<int64_t>(1, width / 4);
  sizes.padded_width = (width + sizes.code_bytes - 1) / sizes.code_bytes * sizes.code_bytes;
  return sizes;
}

namespace {

constexpr int kIterations = 10;       // of k-means
constexpr int kTrainingPoints = 64;   // a centroid, at most
constexpr int64_t kAddRows = 65536;   // encoded between two draws of the progress bar
constexpr int64_t kEncodeRows = 512;  // encoded in one call
constexpr int kCodeBits = 8;

void set_clustering(faiss::ClusteringParameters& parameters) {
  parameters.niter = kIterations;
  parameters.max_points_per_centroid = kTrainingPoints;
  parameters.min_points_per_centroid = 1;  // no warnings on stderr: ivf_pq_sizes has looked
  parameters.seed = 1234;
}

// Centroids of the lists and of the codes, and a code and an id a row.
int64_t list_bytes(const IvfPqSizes& sizes, int64_t rows) {
  return (sizes.lists + (1 << kCodeBits)) * sizes.padded_width * int64_t{sizeof(float)} +
         rows * (sizes.code_bytes + int64_t{sizeof(int64_t)});
}

class FaissIvfPqIndex : public FaissIndex {
 public:
  FaissIvfPqIndex(const IndexConfig& config, const ScaledRows& rows, int64_t first_id, bool show_progress)
      : FaissIndex(rows.size(), rows.width(), first_id),
        sizes_(ivf_pq_sizes(config, rows.size(), rows.width())),
        refine_(config.pq_refine) {
    const at::Tensor dense = faiss_rows(rows, 0, rows.size(), first_id);
    if (sizes_.lists == 0 || refine_ > 0) rows_ = dense;
    if (sizes_.lists == 0) return;
    const at::Tensor wide = padded(dense);
    coarse_ = std::make_unique<BlockedFlat>(sizes_.padded_width, faiss::METRIC_INNER_PRODUCT);
    lists_ = std::make_unique<faiss::IndexIVFPQ>(coarse_.get(), sizes_.padded_width, sizes_.lists, sizes_.code_bytes,
                                                 kCodeBits, faiss::METRIC_INNER_PRODUCT);
    train(wide, show_progress);
    add(wide, show_progress);
  }

  int64_t bytes() const override {
    return (rows_.defined() ? static_cast<int64_t>(rows_.nbytes()) : 0) + (lists_ ? list_bytes(sizes_, rows()) : 0);
  }

  std::string description() const override {
    if (!lists_) return fmt::format("{} labels, too few for lists and codes: every one compared", rows());
    return fmt::format("{} lists, {} of them read for a query, {} bytes a label, {}", sizes_.lists, sizes_.probes,
                       sizes_.code_bytes,
                       refine_ > 0 ? fmt::format("{} k candidates scored again", refine_) : "scores of the codes");
  }

 private:
  // Zeros behind the columns, which change no inner product.
  at::Tensor padded(const at::Tensor& dense) const {
    const int64_t more = sizes_.padded_width - dense.size(1);
    return more == 0 ? dense : at::constant_pad_nd(dense, {0, more});
  }

  void train(const at::Tensor& wide, bool show_progress) {
    set_clustering(lists_->cp);
    set_clustering(lists_->pq.cp);
    lists_->quantizer_trains_alone = 0;
    // Points that k-means assigns: those of the lists, then those of each byte of the codes.
    const int64_t n = wide.size(0), codes = 1 << kCodeBits;
    const int64_t list_points = std::min(n, kTrainingPoints * sizes_.lists);
    const int64_t code_points = std::min(n, kTrainingPoints * codes);
    Progress progress("train the index", "points", kIterations * (list_points + sizes_.code_bytes * code_points),
                      show_progress);
    BlockedFlat assign_list(sizes_.padded_width, faiss::METRIC_INNER_PRODUCT);
    BlockedFlat assign_code(sizes_.padded_width / sizes_.code_bytes, faiss::METRIC_L2);
    assign_list.progress = assign_code.progress = &progress;
    lists_->clustering_index = &assign_list;
    lists_->pq.assign_index = &assign_code;
    lists_->train(n, wide.const_data_ptr<float>());
    lists_->clustering_index = lists_->pq.assign_index = nullptr;
  }

  void add(const at::Tensor& wide, bool show_progress) {
    const int64_t n = wide.size(0), d = wide.size(1);
    const auto code_size = static_cast<int64_t>(lists_->coarse_code_size() + lists_->code_size);
    const auto* data = wide.const_data_ptr<float>();
    Progress progress("index", "labels", n, show_progress);
    for (int64_t first = 0; first < n; first += kAddRows) {
      const int64_t size = std::min(kAddRows, n - first);
      std::vector<uint8_t> codes(static_cast<size_t>(size * code_size));
      for_each_block(size, kEncodeRows, [&](int64_t begin, int64_t end) {
        std::vector<faiss::Index::idx_t> list(static_cast<size_t>(end - begin));
        coarse_->assign(end - begin, data + (first + begin) * d, list.data());
        lists_->encode_vectors(end - begin, data + (first + begin) * d, list.data(), codes.data() + begin * code_size,
                               /*include_listno=*/true);
      });
      std::vector<faiss::Index::idx_t> ids(static_cast<size_t>(size));
      std::iota(ids.begin(), ids.end(), first);
      lists_->add_sa_codes(size, codes.data(), ids.data());
      progress.advance(size);
    }
  }

  void search_lists(int64_t m, const float* queries, int64_t count, int64_t probes, int64_t* found,
                    float* scores) const {
    at::Tensor wide = at::from_blob(const_cast<float*>(queries), {m, width()}, at::kFloat);  // only read
    wide = padded(wide);
    faiss::IVFPQSearchParameters parameters;
    parameters.nprobe = static_cast<size_t>(probes);
    lists_->search(m, wide.const_data_ptr<float>(), count, scores, found, &parameters);
  }

  void find(int64_t m, const float* queries, int64_t count, int64_t* found, float* scores) const override {
    if (lists_) return search_lists(m, queries, count, sizes_.probes, found, scores);
    for (int64_t i = 0; i < m; ++i)  // the final scores are computed from the rows; these are not read
      for (int64_t row = 0; row < count; ++row) found[i * count + row] = row;
  }

  // Lists that hold fewer than k labels between them.
  void find_all(int64_t m, const float* queries, int64_t count, int64_t* found, float* scores) const override {
    search_lists(m, queries, count, sizes_.lists, found, scores);
  }

  const float* exact_rows() const override { return rows_.defined() ? rows_.const_data_ptr<float>() : nullptr; }

  int64_t candidates(int64_t k) const override {
    if (!lists_) return rows();
    return refine_ > 0 && k <= rows() ? k * refine_ : k;
  }

  IvfPqSizes sizes_;
  int64_t refine_;
  at::Tensor rows_;  // [n, D] for the final scores; undefined when the codes' scores are final
  std::unique_ptr<BlockedFlat> coarse_;
  std::unique_ptr<faiss::IndexIVFPQ> lists_;  // none: too few rows
};

}  // namespace

std::unique_ptr<Index> make_faiss_ivf_pq_index(const IndexConfig& config, const ScaledRows& rows, int64_t first_id,
                                               bool show_progress) {
  return std::make_unique<FaissIvfPqIndex>(config, rows, first_id, show_progress);
}

int64_t faiss_ivf_pq_index_bytes(const IndexConfig& config, int64_t n, int64_t width, bool cpu) {
  const IvfPqSizes sizes = ivf_pq_sizes(config, n, width);
  return cpu && sizes.lists > 0 ? list_bytes(sizes, n) : 0;
}

}  // namespace vixen

// The exact search and FAISS on this machine, on made-up rows.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include "doctor/checks.hpp"
#include "search/index.hpp"

namespace vixen {
namespace {

constexpr int64_t kLabels = 4000, kQueries = 200, kWidth = 64, kK = 20;

at::Tensor unit_rows(int64_t n, uint64_t seed) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  const auto rows = at::randn({n, kWidth}, generator);
  return rows / rows.norm(2, 1, /*keepdim=*/true);
}

// The best by float64, int64 [queries, kK].
at::Tensor best_of(const at::Tensor& labels, const at::Tensor& queries) {
  return std::get<1>(at::matmul(queries.to(at::kDouble), labels.to(at::kDouble).t()).topk(kK, 1));
}

Finding exact_finding(const at::Device& device, const std::string& name, const at::Tensor& labels,
                      const at::Tensor& queries, const at::Tensor& best) {
  const auto found = make_index(IndexConfig{}, labels.to(device), 0)->search(queries.to(device), kK).ids.cpu();
  const int64_t wrong = (found != best).sum().item<int64_t>();
  // Scores that differ by float32's last bit may change places.
  if (wrong <= 2) return good(name, fmt::format("exact top-{} of {} labels is right", kK, kLabels));
  return bad(name, fmt::format("{} of {} places are wrong", wrong, kQueries * kK),
             "no answers of this machine can be trusted: tell us, with this table");
}

Finding faiss_finding(const at::Tensor& labels, const at::Tensor& queries, const at::Tensor& best) {
  IndexConfig config;
  config.method = SearchMethod::kFaissHnsw;
  const auto found = make_index(config, labels, 0)->search(queries, kK).ids.cpu();
  const double share = (found.unsqueeze(2) == best.unsqueeze(1)).any(2).to(at::kDouble).mean().item<double>();
  const std::string text = fmt::format("HNSW finds {:.0f}% of them", 100 * share);
  if (share > 0.5) return good("FAISS", text);
  return bad("FAISS", text, "the library is damaged or another one is loaded: mend LD_LIBRARY_PATH");
}

}  // namespace

Findings check_search(Patient& patient) {
  const auto labels = unit_rows(kLabels, 1), queries = unit_rows(kQueries, 2), best = best_of(labels, queries);
  Findings findings{exact_finding(at::kCPU, "exact search", labels, queries, best)};
  if (patient.gpus)
    findings.push_back(exact_finding(patient.gpus->device(), "exact search, GPU", labels, queries, best));
  findings.push_back(faiss_finding(labels, queries, best));
  return findings;
}

}  // namespace vixen

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

// Share of the best by float64 that an index finds.
double found_share(const IndexConfig& config, const at::Tensor& labels, const at::Tensor& queries) {
  const auto best = std::get<1>(at::matmul(queries.to(at::kDouble), labels.to(at::kDouble).t()).topk(kK, 1));
  const auto found = make_index(config, labels, 0)->search(queries, kK).ids.cpu();
  return (found.unsqueeze(2) == best.unsqueeze(1)).any(2).to(at::kDouble).mean().item<double>();
}

void judge_search(const at::Device& device, const std::string& name, Findings& findings) {
  const auto labels = unit_rows(kLabels, 1), queries = unit_rows(kQueries, 2);
  IndexConfig config;
  const auto best = std::get<1>(at::matmul(queries.to(at::kDouble), labels.to(at::kDouble).t()).topk(kK, 1));
  const auto found = make_index(config, labels.to(device), 0)->search(queries.to(device), kK).ids.cpu();
  const int64_t wrong = (found != best).sum().item<int64_t>();
  // Scores that differ by float32's last bit may change places.
  findings.push_back(wrong <= 2 ? good(name, fmt::format("exact top-{} of {} labels is right", kK, kLabels))
                                : bad(name, fmt::format("{} of {} places are wrong", wrong, kQueries * kK),
                                      "no answers of this machine can be trusted: tell us, with this table"));
}

}  // namespace

Findings check_search(Patient& patient) {
  Findings findings;
  judge_search(at::kCPU, "exact search", findings);
  if (patient.gpus) judge_search(patient.gpus->device(), "exact search, GPU", findings);
  IndexConfig hnsw;
  hnsw.method = SearchMethod::kFaissHnsw;
  const double share = found_share(hnsw, unit_rows(kLabels, 1), unit_rows(kQueries, 2));
  findings.push_back(share > 0.5 ? good("FAISS", fmt::format("HNSW finds {:.0f}% of them", 100 * share))
                                 : bad("FAISS", fmt::format("HNSW finds {:.0f}% of them", 100 * share),
                                       "the library is damaged or another one is loaded: mend LD_LIBRARY_PATH"));
  return findings;
}

}  // namespace vixen

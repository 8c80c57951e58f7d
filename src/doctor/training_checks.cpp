// 2-means and the objective's rows: the CPU's loops and the GPU's kernels against their references, on data that is new
// every time.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <numeric>
#include <random>

#include "cluster/balanced_two_means.hpp"
#include "comm/one_rank.hpp"
#include "doctor/checks.hpp"
#include "doctor/kernel_comparisons.hpp"
#include "objective/device_kernels.hpp"

namespace vixen {
namespace {

constexpr int64_t kRows = 2000, kWidth = 48;
constexpr int kDepth = 6;
constexpr const char* kTellUs = "run with {} = reference, and tell us, with this table";

std::vector<int32_t> leaves_of(const at::Tensor& rows, at::Device device) {
  OneRank comm(device);
  const auto leaves = balanced_two_means(rows.to(device), RowShards(kRows, 1), {.depth = kDepth}, comm);
  return {leaves.view().begin(), leaves.view().end()};
}

// A tree of the CPU's loops: every leaf has its share of the rows, and rows lie nearer to their own leaf's mean than to
// that of the other half of its parent.
Finding cpu_finding(const at::Tensor& rows, const std::vector<int32_t>& leaves) {
  const std::string what = "2-means, CPU";
  const at::Tensor leaf = at::tensor(std::vector<int64_t>(leaves.begin(), leaves.end()), at::kLong);
  const at::Tensor counts = at::bincount(leaf, {}, int64_t{1} << kDepth);
  const at::Tensor unit = rows / rows.norm(2, 1, true);
  const at::Tensor means = at::zeros({int64_t{1} << kDepth, kWidth}).index_add_(0, leaf, unit) / counts.unsqueeze(1);
  const double own = (unit * means.index_select(0, leaf)).sum(1).mean().item<double>();
  const double other = (unit * means.index_select(0, leaf.bitwise_xor(1))).sum(1).mean().item<double>();
  const auto least = counts.min().item<int64_t>(), most = counts.max().item<int64_t>();
  if (most - least <= 1 && own > other)
    return good(what, fmt::format("{} rows in {} clusters of {} to {}", kRows, 1 << kDepth, least, most));
  return bad(what,
             fmt::format("clusters of {} to {} rows, {:.3f} near their own mean, {:.3f} near another", least, most, own,
                         other),
             "no clusters of this machine can be trusted: tell us, with this table");
}

Finding gpu_finding(const at::Tensor& rows, const std::vector<int32_t>& expected, at::Device gpu, uint64_t seed) {
  const std::string what = "2-means, GPU";
  const auto found = leaves_of(rows, gpu);
  const auto wrong = std::inner_product(found.begin(), found.end(), expected.begin(), int64_t{0}, std::plus<>(),
                                        std::not_equal_to<>());
  if (wrong == 0) return good(what, fmt::format("the CPU's clusters of {} rows, to the bit", kRows));
  return bad(what, fmt::format("{} of {} rows lie in another cluster than the CPU's (seed {})", wrong, kRows, seed),
             fmt::format(kTellUs, key_of(KernelFamily::kClusters)));
}

double difference(const at::Tensor& found, const at::Tensor& expected) {
  return ((found - expected).abs().max() / expected.abs().max().clamp_min(1e-30)).item<double>();
}

Finding objective_finding(at::Device gpu, at::Generator random, uint64_t seed) {
  const std::string what = "losses of rows, GPU";
  constexpr int64_t kScored = 300, kColumns = 700;
  const at::Tensor scores = (at::rand({kScored, kColumns}, random) * 2 - 1).to(gpu);
  const at::Tensor mask = (at::rand({kScored, kColumns}, random) < 0.01).to(gpu);
  const at::Tensor positive = at::randint(-1, kColumns, {kScored}, random, at::kLong).to(gpu);
  const LossConfig config;
  const auto found = row_losses(scores, mask, positive, /*has_gaps=*/true, config);
  const auto expected = reference::row_losses(scores, mask, positive, /*has_gaps=*/true, config);
  const double apart = std::max({difference(found.values, expected.values), difference(found.slopes, expected.slopes),
                                 difference(found.positive_slope, expected.positive_slope)});
  if (apart < kernel_tolerance(at::kFloat)) return good(what, fmt::format("{:.1e} from the reference at most", apart));
  return bad(what, fmt::format("{:.1e} from the reference (seed {})", apart, seed),
             fmt::format(kTellUs, key_of(KernelFamily::kObjective)));
}

}  // namespace

Findings check_training_kernels(Patient& patient) {
  const uint64_t seed = std::random_device{}() % 1'000'000;
  at::Generator random = at::make_generator<at::CPUGeneratorImpl>(seed);
  const at::Tensor rows = at::randn({kRows, kWidth}, random);
  const auto leaves = leaves_of(rows, at::kCPU);
  Findings findings{cpu_finding(rows, leaves)};
  if (patient.gpus) {
    findings.push_back(gpu_finding(rows, leaves, patient.gpus->device(), seed));
    findings.push_back(objective_finding(patient.gpus->device(), random, seed));
  } else {
    findings.push_back(skipped("2-means, GPU", "no GPU"));
    findings.push_back(skipped("losses of rows, GPU", "no GPU"));
  }
  return findings;
}

}  // namespace vixen

// Metrics on real test matrices against napkinxc and scikit-learn (goldens by make_metric_goldens.py), to 1e-9.
#include "eval/metrics.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "base/file.hpp"

namespace vixen {
namespace {

constexpr double kTolerance = 1e-9;  // of percentages
constexpr size_t kWidth = 110;
constexpr uint64_t kMaxFilter = 10;
constexpr int64_t kOfficialK = 15;

std::filesystem::path golden_folder() {
  return std::filesystem::path(VIXEN_SOURCE_DIR) / "tests/parity/goldens";
}

/// A real test matrix with the training frequencies of its labels.
struct Matrix {
  std::vector<std::vector<int32_t>> rows;
  std::vector<int64_t> counts;
  int64_t n_train = 0;
};

template <typename T>
std::vector<int64_t> read_numbers(std::ifstream& file, size_t n) {
  std::vector<T> raw(n);
  file.read(reinterpret_cast<char*>(raw.data()), static_cast<std::streamsize>(n * sizeof(T)));
  return {raw.begin(), raw.end()};
}

Matrix read_matrix(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  const auto header = read_numbers<int64_t>(file, 4);
  const auto lengths = read_numbers<uint16_t>(file, static_cast<size_t>(header[0]));
  size_t total = 0;
  for (const int64_t length : lengths) total += static_cast<size_t>(length);
  const auto ids = header[3] == 2 ? read_numbers<uint16_t>(file, total) : read_numbers<uint32_t>(file, total);
  Matrix matrix;
  matrix.counts = read_numbers<uint32_t>(file, static_cast<size_t>(header[1]));
  matrix.n_train = header[2];
  EXPECT_TRUE(file.good()) << path;
  auto next = ids.begin();
  for (const int64_t length : lengths) {
    matrix.rows.emplace_back(next, next + length);
    next += length;
  }
  return matrix;
}

uint64_t mix(uint64_t value) {
  value += 0x9E3779B97F4A7C15u;
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9u;
  value = (value ^ (value >> 27)) * 0x94D049BB133111EBu;
  return value ^ (value >> 31);
}

/// The formula of make_metric_goldens.py: distinct labels, about every fifth draw one of the row's own.
std::vector<int64_t> predictions(uint64_t row, const std::vector<int32_t>& truth, uint64_t n_labels) {
  std::vector<int64_t> chosen;
  std::unordered_set<int64_t> seen;
  const size_t width = row % 50 == 0 ? 3 : kWidth;
  for (uint64_t counter = 0; chosen.size() < width; ++counter) {
    const uint64_t draw = mix(row * 1000003 + counter);
    const int64_t label = !truth.empty() && (draw & 0xFF) < 51 ? truth[(draw >> 8) % truth.size()]
                                                               : static_cast<int64_t>((draw >> 8) % n_labels);
    if (seen.insert(label).second) chosen.push_back(label);
  }
  return chosen;
}

std::vector<int32_t> filter_row(uint64_t row, const std::vector<int64_t>& predicted, uint64_t n_labels) {
  std::vector<int32_t> labels;
  const uint64_t count = mix(row * 7919 + 1) % (kMaxFilter + 1);
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t draw = mix((row * 7919 + 2 + i) ^ 0x5DEECE66Du);
    labels.push_back(draw & 1 ? static_cast<int32_t>(predicted[(draw >> 1) % std::min<size_t>(20, predicted.size())])
                              : static_cast<int32_t>((draw >> 1) % n_labels));
  }
  std::sort(labels.begin(), labels.end());
  labels.erase(std::unique(labels.begin(), labels.end()), labels.end());
  return labels;
}

class MetricsParity : public testing::TestWithParam<std::string> {};

TEST_P(MetricsParity, AgreesWithPublicCode) {
  const Matrix matrix = read_matrix(golden_folder() / (GetParam() + ".bin"));
  const auto golden = nlohmann::json::parse(read_text(golden_folder() / (GetParam() + ".json")));
  std::vector<double> weights;
  for (const int64_t count : matrix.counts)
    weights.push_back(inverse_propensity(count, matrix.n_train, golden["a"].get<double>(), golden["b"].get<double>()));
  const auto n_labels = static_cast<uint64_t>(matrix.counts.size());
  ASSERT_GT(matrix.rows.size(), 1000u);
  ASSERT_EQ(golden["variants"].size(), 4u);

  for (const auto& [variant, values] : golden["variants"].items()) {
    Metrics metrics(LabelTable::of(weights, matrix.counts));
    double pairs = 0;
    for (size_t i = 0; i < matrix.rows.size(); ++i) {
      const bool blank = variant == "blank" && i % 101 == 7;
      const std::vector<int32_t> truth = blank ? std::vector<int32_t>{} : matrix.rows[i];
      const auto predicted = predictions(i, matrix.rows[i], n_labels);
      const bool filtered = variant == "before" || variant == "official";
      const auto filter = filtered ? filter_row(i, predicted, n_labels) : std::vector<int32_t>{};
      metrics.add(apply_filter(predicted, filter, 100, variant == "official", kOfficialK), truth);
      pairs += static_cast<double>(truth.size());
    }
    const auto result = metrics.result();
    EXPECT_EQ(result.size(), 29u);
    size_t compared = 0;
    for (const char* source : {"napkinxc", "sklearn"}) {
      for (const auto& [name, expected] : values[source].items()) {
        ASSERT_TRUE(result.count(name)) << name;
        EXPECT_NEAR(result.at(name), expected.get<double>(), kTolerance) << variant << " " << source << " " << name;
        ++compared;
      }
    }
    EXPECT_EQ(compared, 28u + 6u) << "28 values by napkinxc (all but MAP), nDCG and MAP by scikit-learn";

    // The deciles are parts of the whole.
    double bin_pairs = 0, bin_precision = 0;
    for (const auto& bin : metrics.bins()) {
      bin_pairs += bin.pairs;
      bin_precision += bin.precision_at_5;
    }
    EXPECT_EQ(bin_pairs, pairs);
    EXPECT_NEAR(bin_precision, result.at("P@5"), kTolerance);
  }
}

/// Every golden that lies beside the test: the script makes more from other folders (LF-AmazonTitles-131K).
std::vector<std::string> golden_names() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(golden_folder())) {
    const std::string stem = entry.path().stem().string();
    if (entry.path().extension() == ".bin" && stem.starts_with("metrics_")) names.push_back(stem);
  }
  std::sort(names.begin(), names.end());
  return names;
}

TEST(MetricsGoldens, ArePresent) {
  EXPECT_GE(golden_names().size(), 2u);
}

INSTANTIATE_TEST_SUITE_P(RealMatrices, MetricsParity, testing::ValuesIn(golden_names()), [](const auto& test) {
  std::string name = test.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

}  // namespace
}  // namespace vixen

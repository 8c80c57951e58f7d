// The exact search of a GPU on the pretend device against the CPU's: ids and scores to the bit, waits, bytes, order of
// streams.
#include <c10/core/impl/VirtualGuardImpl.h>
#include <gtest/gtest.h>

#include "base/check.hpp"
#include "fixtures/fault.hpp"
#include "pretend/reference_kernels.hpp"
#include "pretend/search_kernels.hpp"
#include "search/exact_search.hpp"
#include "search/exact_search_device.hpp"

namespace vixen::pretend {
namespace {

at::Tensor random_rows(int64_t n, int64_t d, uint64_t seed) {
  return at::randn({n, d}, at::make_generator<at::CPUGeneratorImpl>(seed));
}
at::Tensor unit(const at::Tensor& rows) {
  return rows / rows.norm(2, 1, true);
}

IndexConfig settings(int64_t block_queries = 1024, int64_t block_labels = 512) {
  IndexConfig config;
  config.prefilter = Prefilter::kFloat32;
  config.block_queries = block_queries;
  config.block_labels = block_labels;
  return config;
}

class PretendSearchTest : public ::testing::Test {
 protected:
  void SetUp() override {
    device();
    use_reference_kernels();
    take_faults();
  }
  void TearDown() override {
    EXPECT_EQ(text_of(take_faults()), "");
    set_kernel_choices({});
  }

  static void expect_same(const TopK& found, const TopK& expected, const std::string& what) {
    EXPECT_EQ(found.ids.device(), device());
    EXPECT_TRUE(found.ids.cpu().equal(expected.ids)) << what;
    EXPECT_TRUE(found.scores.cpu().equal(expected.scores)) << what << ": scores agree to the bit";
  }

  // Resident and streamed in parts, against the CPU.
  static void check(const at::Tensor& labels, const at::Tensor& queries, int64_t k, const at::Tensor& lengths = {}) {
    const TopK expected = ExactIndex({labels, lengths}, 500, settings()).search(queries, k);
    const at::Tensor asked = queries.to(device());
    const at::Tensor divisors = lengths.defined() ? lengths.to(device()) : lengths;
    const ExactIndex resident({labels.to(device()), divisors}, 500, settings(7));
    expect_same(resident.search(asked, k), expected, fmt::format("resident, k {}", k));
    const ScaledRows on_host = ScaledRows::streamed(labels, lengths, device());
    expect_same(ExactIndex(on_host, 500, settings()).search(asked, k), expected, fmt::format("one part, k {}", k));
    for (const int64_t part : {256, 768})
      expect_same(search_on_device(DeviceLabels(on_host, 500, part), asked, k, settings(7), false), expected,
                  fmt::format("parts of {}, k {}", part, k));
  }
};

TEST_F(PretendSearchTest, AnswersAreTheCpusToTheBit) {
  const at::Tensor labels = unit(random_rows(1500, 40, 1)), queries = unit(random_rows(11, 40, 2));
  for (const int64_t k : {1, 10, 300, 1600}) check(labels, queries, k);
  check(labels.to(at::kHalf), queries, 20);
  const at::Tensor halves = (random_rows(1500, 40, 3) * 7).to(at::kHalf);
  check(halves, queries, 20, halves.to(at::kDouble).norm(2, 1));
  check(at::empty({0, 40}), queries, 5);
  check(labels, at::empty({0, 40}), 5);
  check(labels.narrow(0, 0, 1), queries, 5);
}

TEST_F(PretendSearchTest, MoreQueriesThanAreHeldAtATime) {
  constexpr int64_t kQueries = 11, kAtATime = 4;
  const at::Tensor labels = unit(random_rows(700, 12, 7)), queries = unit(random_rows(kQueries, 12, 8));
  const DeviceLabels rows(ScaledRows(labels.to(device())), 500, 256);
  const auto search = [&](const at::Tensor& asked) {
    return search_on_device(rows, asked.to(device()), 20, settings(7), false, kAtATime);
  };
  expect_same(search(queries), ExactIndex(labels, 500, settings()).search(queries, 20), "three parts");
  at::Tensor broken = queries.clone();
  broken[9].fill_(std::nan(""));
  const auto said = test::fault_of([&] { search(broken); });
  EXPECT_NE(said.find("query row 9"), std::string::npos) << said;
}

TEST_F(PretendSearchTest, Bfloat16RowsAreMultipliedAsTheyAre) {
  const at::Tensor labels = unit(random_rows(1300, 24, 4)).to(at::kBFloat16), queries = unit(random_rows(9, 24, 5));
  const TopK expected = ExactIndex(labels, 0, settings()).search(queries, 15);
  const int64_t before = bytes();
  const at::Tensor rows = labels.to(device());
  const ExactIndex index(rows, 0, settings());
  EXPECT_EQ(index.bytes(), 1300 * 24 * 2 + (1300 + 6) * 8) << "no copy";
  EXPECT_EQ(bytes() - before, index.bytes());
  expect_same(index.search(queries.to(device()), 15), expected, "bfloat16");
}

TEST_F(PretendSearchTest, HostileRows) {
  const at::Tensor queries = unit(random_rows(5, 16, 6));
  check(at::ones({1400, 16}), queries, 10);
  check(at::zeros({1400, 16}), queries, 10);
  check(at::round(random_rows(40, 16, 7)).repeat({35, 1}), at::round(queries * 3), 60);
  check(unit(random_rows(1, 16, 8)) + random_rows(1400, 16, 9) * 1e-7, queries, 10);
  const at::Tensor rising = at::arange(1400, at::kFloat).unsqueeze(1) * at::ones({1, 16}) / 100;
  check(rising, at::ones({2, 16}), 30);
  check(rising, -at::ones({2, 16}), 30);
  at::Tensor mixed = random_rows(1400, 16, 10);
  mixed.slice(0, 0, 1400, 5).mul_(1e16);
  mixed.slice(0, 1, 1400, 5).zero_();
  mixed.slice(0, 2, 1400, 5).mul_(1e-42);
  check(mixed, queries, 300);
}

TEST_F(PretendSearchTest, MistakesAreTheCpus) {
  at::Tensor labels = unit(random_rows(700, 8, 11)), queries = unit(random_rows(5, 8, 12));
  const ExactIndex index(labels.to(device()), 0, settings());
  queries[3][2] = std::nanf("");
  EXPECT_FAULT(test::fault_of([&] { index.search(queries.to(device()), 1); }), "query row 3 holds a NaN");
  labels[600][1] = std::nanf("");
  EXPECT_FAULT(test::fault_of([&] { ExactIndex(labels.to(device()), 100, settings()); }), "label row 700 holds a NaN");
  const ScaledRows on_host = ScaledRows::streamed(labels, {}, device());
  EXPECT_FAULT(test::fault_of([&] { ExactIndex(on_host, 100, settings()); }), "label row 700 holds a NaN");
  EXPECT_FAULT(test::fault_of([&] { DeviceLabels(on_host, 100, 256); }), "label row 700 holds a NaN");
  KernelsConfig fused;
  fused.search = KernelChoice::kFused;
  set_kernel_choices(fused);
  EXPECT_EQ(test::fault_of([&] { index.search(unit(random_rows(5, 8, 12)).to(device()), 1); }),
            "kernels.search = fused: no fused filter_scores on pretend:0; use auto or reference");
}

// However many tiles, parts and blocks of queries there are: the host waits for the norms of the queries alone.
TEST_F(PretendSearchTest, NoTileMakesTheHostWait) {
  const at::Tensor labels = unit(random_rows(3000, 16, 13)), queries = unit(random_rows(40, 16, 14)).to(device());
  for (const bool launched : {false, true}) {
    std::optional<LaunchedSearchKernels> kernels;
    if (launched) {
      set_kernel_choices({});
      kernels.emplace();
    }
    const auto cost = [&](const DeviceLabels& of, const IndexConfig& config) {
      const Counts before = counts();
      const int64_t launches_before = LaunchedSearchKernels::launches();
      search_on_device(of, queries, 5, config, false);
      const Counts after = counts();
      EXPECT_EQ(after.event_waits, before.event_waits);
      EXPECT_EQ(after.to_device_pageable, before.to_device_pageable);
      EXPECT_EQ(after.waits - before.waits, 2) << "norms and residuals of the queries";
      return LaunchedSearchKernels::launches() - launches_before;
    };
    const DeviceLabels resident(labels.to(device()), 0, 256);
    const DeviceLabels streamed(ScaledRows::streamed(labels, {}, device()), 0, 256);
    const int64_t few = cost(resident, settings(64, 3072)), many = cost(resident, settings(8, 256));
    // 1,024 labels first, then what is left; 12 tiles for each of 5 blocks.
    EXPECT_EQ(few, launched ? 3 : 0);
    EXPECT_EQ(many, launched ? 5 * (12 + 1) : 0);
    EXPECT_EQ(cost(streamed, settings(8, 256)), launched ? 5 * 12 * 2 : 0) << "12 parts of a tile";
  }
}

TEST_F(PretendSearchTest, BytesAreThePlans) {
  const LaunchedSearchKernels kernels;
  set_kernel_choices({});
  const auto near = [](int64_t planned, int64_t counted, const char* what) {
    EXPECT_NEAR(static_cast<double>(planned), static_cast<double>(counted), 0.05 * static_cast<double>(counted))
        << what;
  };
  for (const int64_t k : {10, 1000}) {
    const int64_t n = 5000, d = 32, m = 100;
    const IndexConfig config = settings(64, 2048);
    const DeviceSizes sizes = device_sizes(config, n, d, k, 50'000'000);
    const at::Tensor labels = unit(random_rows(n, d, 15)), queries = unit(random_rows(m, d, 16)).to(device());
    const at::Tensor rows = labels.to(device());
    const int64_t before = bytes();
    const ExactIndex index(rows, 0, config);
    EXPECT_EQ(bytes() - before, index_kind(SearchMethod::kExact).planned_bytes(config, n, d, /*cpu=*/false));
    EXPECT_EQ(index.bytes(), bytes() - before + n * d * 4);
    const auto peak_of = [&](const auto& search) {
      search();
      const int64_t then = bytes();
      reset_peak_bytes();
      const TopK lists = search();
      return peak_bytes() - then - static_cast<int64_t>(lists.ids.nbytes() + lists.scores.nbytes());
    };
    near(device_search_bytes(sizes, m, k, d, 0), peak_of([&] { return index.search(queries, k); }), "resident");

    const int64_t part = 2048;
    const DeviceLabels streamed(ScaledRows::streamed(labels, {}, device()), 0, part);
    DeviceSizes parts = sizes;
    parts.part_labels = part;
    near(device_search_bytes(parts, m, k, d, 4),
         peak_of([&] { return search_on_device(streamed, queries, k, config, false); }), "streamed");
  }
}

// A part is copied while another is searched, on a stream of its own; the ledger knows when one does not wait for the
// other.
TEST_F(PretendSearchTest, PartsAreCopiedBehindTheSearch) {
  const at::Tensor labels = unit(random_rows(2000, 16, 17));
  const DeviceLabels streamed(ScaledRows::streamed(labels, {}, device()), 0, 256);
  EXPECT_TRUE(streamed.streamed());
  EXPECT_EQ(streamed.bytes(), 2000 * 16 * 4 + (2000 + 8) * 8);
  const Counts before = counts();
  const InStep step;
  int64_t parts = 0, labels_seen = 0;
  streamed.for_each_part([&](const DevicePart& part) {
    EXPECT_EQ(part.first, labels_seen);
    labels_seen += part.values.size(0);
    EXPECT_TRUE(host_view(part.values).equal(labels.narrow(0, part.first, part.values.size(0))));
    EXPECT_TRUE(host_view(part.rounded).equal(host_view(part.values).to(at::kBFloat16)));
    // At that moment the next part has been asked for.
    EXPECT_EQ(counts().to_device_pinned - before.to_device_pinned, std::min<int64_t>(++parts + 1, 8));
  });
  EXPECT_EQ(labels_seen, 2000);
  EXPECT_EQ(counts().to_device_pageable, before.to_device_pageable);
}

TEST_F(PretendSearchTest, CanonicalDotsAreTheCpus) {
  for (const int64_t d : {0, 1, 17, 64}) {
    const at::Tensor a = random_rows(50, d, 18), b = random_rows(50, d, 19);
    EXPECT_TRUE(canonical_dot(a.to(device()), b.to(device())).cpu().equal(canonical_dot(a, b))) << d;
  }
}

}  // namespace
}  // namespace vixen::pretend

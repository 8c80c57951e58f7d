// Products of bytes against plain integers, codes within their limits, and the bound against scores in float64: for
// every instruction set of this machine.
#include "search/int8_kernels.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <functional>
#include <string>

#include "search/int8_bound.hpp"
#include "search/scan_kernels.hpp"

namespace vixen {
namespace {

int64_t padded(int64_t width) {
  return (width + kInt8Block - 1) / kInt8Block * kInt8Block;
}

at::Tensor random_rows(int64_t n, int64_t d, uint64_t seed) {
  return at::randn({n, d}, at::make_generator<at::CPUGeneratorImpl>(seed));
}

at::Tensor unit(const at::Tensor& rows) {
  return rows / rows.norm(2, 1, true);
}

/// Calls work(kernels) for every variant.
void for_each_variant(const std::function<void(const Int8Kernels&)>& work) {
  const Int8Variants variants = int8_variants();
  for (int64_t i = 0; i < variants.count; ++i) {
    SCOPED_TRACE(name_of(variants.first[i]->level));
    work(*variants.first[i]);
  }
}

/// Rows of one side in codes.
struct Coded {
  Coded(const Int8Kernels& kernels, const at::Tensor& rows, const CodeLimits& limits)
      : width(padded(rows.size(1))), codes(at::zeros({rows.size(0), width}, at::kChar)) {
    const at::Tensor wide = at::constant_pad_nd(rows, {0, width - rows.size(1)}).contiguous();
    for (int64_t i = 0; i < rows.size(0); ++i)
      facts.push_back(kernels.code(wide.const_data_ptr<float>() + i * width, width, limits,
                                   codes.mutable_data_ptr<int8_t>() + i * width));
  }
  const int8_t* row(int64_t i) const { return codes.const_data_ptr<int8_t>() + i * width; }

  int64_t width;
  at::Tensor codes;  // int8 [n, D']
  std::vector<CodedRow> facts;
};

int64_t integer_product(const int8_t* a, const int8_t* b, int64_t n) {
  int64_t sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += int64_t{a[i]} * int64_t{b[i]};
  return sum;
}

/// The kernel's `upper` [m, n] of codes of queries and labels; the factors of rows that are missing are zero.
at::Tensor product(const Int8Kernels& kernels, const Coded& queries, const std::vector<CodedNorms>& query_norms,
                   const std::vector<QueryWeights>& weights, const Coded& labels,
                   const std::vector<CodedNorms>& label_norms) {
  const int64_t m = queries.codes.size(0), n = labels.codes.size(0), width = queries.width;
  const int64_t panels = (n + kernels.panel_rows - 1) / kernels.panel_rows, columns = panels * kernels.panel_rows;
  std::vector<int8_t> panel(static_cast<size_t>(columns * width));
  std::vector<float> scale(static_cast<size_t>(columns)), residual(scale.size()), norm(scale.size());
  std::vector<int32_t> offset(scale.size());
  for (int64_t j = 0; j < n; ++j) {
    const auto at_j = static_cast<size_t>(j);
    const int64_t row = j % kernels.panel_rows;
    kernels.pack_label(labels.row(j), width, row, panel.data() + (j - row) * width);
    scale[at_j] = label_norms[at_j].scale;
    residual[at_j] = label_norms[at_j].residual;
    norm[at_j] = label_norms[at_j].norm;
    offset[at_j] = kernels.query_limits.largest * labels.facts[at_j].code_sum;
  }
  at::Tensor upper = at::empty({m, columns}, at::kFloat);
  for (int64_t first = 0; first < m; first += kernels.strip_rows) {
    const auto rows = static_cast<size_t>(kernels.strip_rows);
    std::vector<uint8_t> strip(rows * static_cast<size_t>(width));
    std::vector<float> query_scale(rows), residual_weight(rows), norm_weight(rows);
    const int64_t filled = std::min(kernels.strip_rows, m - first);
    for (int64_t i = 0; i < filled; ++i) {
      const auto query = static_cast<size_t>(first + i), row = static_cast<size_t>(i);
      kernels.pack_query(queries.row(first + i), width, i, strip.data());
      query_scale[row] = query_norms[query].scale;
      residual_weight[row] = weights[query].residual_weight;
      norm_weight[row] = weights[query].norm_weight;
    }
    at::Tensor out = at::empty({kernels.strip_rows, columns}, at::kFloat);
    kernels.product(strip.data(), {query_scale.data(), residual_weight.data(), norm_weight.data()}, panel.data(),
                    {scale.data(), residual.data(), norm.data(), offset.data()}, panels, width,
                    out.mutable_data_ptr<float>(), columns);
    upper.narrow(0, first, filled).copy_(out.narrow(0, 0, filled));
  }
  return upper.narrow(1, 0, n).contiguous();
}

void expect_integers(const Int8Kernels& kernels, const at::Tensor& queries, const at::Tensor& labels) {
  const Coded coded_queries(kernels, queries, kernels.query_limits),
      coded_labels(kernels, labels, kernels.label_limits);
  const CodedNorms one{1, 0, 0};
  const at::Tensor found =
      product(kernels, coded_queries, std::vector<CodedNorms>(static_cast<size_t>(queries.size(0)), one),
              std::vector<QueryWeights>(static_cast<size_t>(queries.size(0))), coded_labels,
              std::vector<CodedNorms>(static_cast<size_t>(labels.size(0)), one));
  for (int64_t i = 0; i < queries.size(0); ++i) {
    for (int64_t j = 0; j < labels.size(0); ++j) {
      const int64_t expected = integer_product(coded_queries.row(i), coded_labels.row(j), coded_queries.width);
      ASSERT_EQ(found.const_data_ptr<float>()[i * labels.size(0) + j], static_cast<float>(expected) + kInt8Tiny)
          << i << ", " << j;
    }
  }
}

TEST(Int8Kernels, ProductsAreThoseOfPlainIntegers) {
  for_each_variant([](const Int8Kernels& kernels) {
    for (const int64_t d : {1, 16, 64, 100, 384})
      expect_integers(kernels, random_rows(19, d, 1), random_rows(45, d, 2));
  });
}

TEST(Int8Kernels, NothingSaturatesHoweverRowsAreMade) {
  // All coordinates at their limit, of one sign or in any pattern of signs; one coordinate; blocks of them.
  const int64_t d = 192;
  at::Tensor rows =
      at::cat({at::ones({1, d}), -at::ones({1, d}), random_rows(30, d, 3).sign(), at::eye(d).slice(0, 0, 8),
               at::ones({1, d}) * at::arange(d).remainder(24).lt(1), at::zeros({1, d})});
  for (const int64_t period : {2, 3, 8, 24, 48, 96}) {
    rows = at::cat({rows, (at::arange(d).remainder(period).lt((period + 1) / 2).to(at::kFloat) * 2 - 1).unsqueeze(0)});
  }
  for_each_variant([&](const Int8Kernels& kernels) { expect_integers(kernels, rows, rows); });
}

TEST(Int8Kernels, CodesKeepTheirLimits) {
  for_each_variant([](const Int8Kernels& kernels) {
    for (const CodeLimits& limits : {kernels.query_limits, kernels.label_limits}) {
      const at::Tensor rows = at::cat({random_rows(40, 200, 4), random_rows(40, 200, 5).sign(), at::ones({1, 200}),
                                       random_rows(20, 200, 6) * 1e-40, random_rows(20, 200, 7) * 1e15});
      const Coded coded(kernels, rows, limits);
      const int64_t groups = coded.width / 8;
      int32_t most = 0;
      for (int64_t i = 0; i < rows.size(0); ++i) {
        const at::Tensor codes = coded.codes[i].to(at::kInt), grouped = codes.view({8, groups});
        const CodedRow& facts = coded.facts[static_cast<size_t>(i)];
        most = std::max(most, codes.abs().max().item<int32_t>());
        EXPECT_LE(grouped.clamp_min(0).sum(0).max().item<int64_t>(), limits.largest_sum);
        EXPECT_LE(grouped.clamp_max(0).sum(0).neg().max().item<int64_t>(), limits.largest_sum);
        EXPECT_EQ(codes.sum().item<int64_t>(), facts.code_sum);
        EXPECT_EQ(codes.square().sum().item<int64_t>(), facts.code_squares);
        // Each code is the nearest integer.
        const at::Tensor error =
            (at::constant_pad_nd(rows[i], {0, coded.width - 200}).to(at::kDouble) - codes * double{facts.scale}).abs();
        EXPECT_LE(error.max().item<double>(), 0.5001 * double{facts.scale});
      }
      EXPECT_LE(most, limits.largest);
      EXPECT_GE(most, limits.largest - 1) << "the range is used";
    }
  });
}

TEST(CpuLevel, PyTorchsVariableHoldsTheKernels) {
  const char* variable = std::getenv("ATEN_CPU_CAPABILITY");
  const std::string before = variable != nullptr ? variable : "";
  const CpuLevel best = cpu_level();
  setenv("ATEN_CPU_CAPABILITY", "avx2", 1);
  EXPECT_EQ(cpu_level(), std::min(best, CpuLevel::kAvx2));
  EXPECT_EQ(int8_kernels().level, std::min(best, CpuLevel::kAvx2));
  setenv("ATEN_CPU_CAPABILITY", "default", 1);
  EXPECT_EQ(cpu_level(), CpuLevel::kBaseline);
  EXPECT_EQ(int8_variants().count, 1);
  if (variable != nullptr)
    setenv("ATEN_CPU_CAPABILITY", before.c_str(), 1);
  else
    unsetenv("ATEN_CPU_CAPABILITY");
}

/// Rows of every kind, as queries and as labels.
struct Kind {
  std::string name;
  at::Tensor rows;  // [n, D]
};

std::vector<Kind> kinds(int64_t d, uint64_t seed) {
  const at::Tensor units = unit(random_rows(40, d, seed));
  at::Tensor giant = units.clone();
  giant.select(1, d / 2).fill_(1e5);
  at::Tensor lengths = units * at::pow(10.0, random_rows(40, 1, seed + 1) * 4);
  at::Tensor some_zero = units.clone();
  some_zero.slice(0, 0, 40, 3).zero_();
  const at::Tensor centre = unit(random_rows(1, d, seed + 2));
  return {{"unit", units},
          {"one giant coordinate", giant},
          {"many lengths", lengths},
          {"zero rows", some_zero},
          {"equal rows", units.slice(0, 0, 1).expand({40, d}).contiguous()},
          {"nearly equal rows", centre + units * 1e-7},
          {"right angles", units - at::mm(units, centre.t()) * centre},
          {"small whole numbers", at::round(units * 3)},
          {"huge", units * 9e17},
          {"tiny", units * 1e-15},
          {"denormal", units * 1e-41},
          {"float16", units.to(at::kHalf).to(at::kFloat)}};
}

double norm_of(const at::Tensor& row) {
  return row.to(at::kDouble).norm().item<double>();
}

/// Every canonical score lies within the bound of its score. Rows of labels are values / divisors.
void check_bound(const Int8Kernels& kernels, const Kind& queries, const Kind& labels, const at::Tensor& divisors) {
  SCOPED_TRACE(queries.name + " queries, " + labels.name + " labels, " +
               (divisors.defined() ? "divided" : "as they are"));
  const int64_t d = queries.rows.size(1);
  const at::Tensor rows = divisors.defined()
                              ? (labels.rows.to(at::kDouble) / divisors.unsqueeze(1)).to(at::kFloat).contiguous()
                              : labels.rows.contiguous();
  const Coded q(kernels, queries.rows, kernels.query_limits), l(kernels, labels.rows, kernels.label_limits);
  std::vector<CodedNorms> query_norms, label_norms;
  std::vector<QueryWeights> weights;
  for (size_t i = 0; i < q.facts.size(); ++i) {
    query_norms.push_back(coded_norms(q.facts[i], q.width));
    weights.push_back(query_weights(query_norms[i], norm_of(queries.rows[static_cast<int64_t>(i)])));
  }
  for (size_t j = 0; j < l.facts.size(); ++j) {
    const double divisor = divisors.defined() ? divisors[static_cast<int64_t>(j)].item<double>() : 1.0;
    label_norms.push_back(coded_norms(l.facts[j], l.width, divisor));
  }
  const at::Tensor upper = product(kernels, q, query_norms, weights, l, label_norms);
  const at::Tensor query_rows = queries.rows.contiguous();
  for (int64_t i = 0; i < upper.size(0); ++i) {
    for (int64_t j = 0; j < upper.size(1); ++j) {
      const auto score = static_cast<float>(
          scan_kernels().dot(query_rows.const_data_ptr<float>() + i * d, rows.const_data_ptr<float>() + j * d, d));
      const auto& label = label_norms[static_cast<size_t>(j)];
      const auto& weight = weights[static_cast<size_t>(i)];
      const double error =
          double{weight.norm_weight} * label.norm + double{weight.residual_weight} * label.residual + double{kInt8Tiny};
      const double bound = upper.const_data_ptr<float>()[i * upper.size(1) + j];
      ASSERT_LE(double{score}, bound) << i << ", " << j;
      ASSERT_GE(double{score}, bound - 2 * error - 1e-6 * (std::abs(bound) + error + std::abs(double{score})))
          << i << ", " << j;
    }
  }
}

TEST(Int8Bound, HoldsForRowsOfEveryKind) {
  for (const bool flush : {false, true}) {
    at::globalContext().setFlushDenormal(flush);
    for_each_variant([](const Int8Kernels& kernels) {
      for (const int64_t d : {7, 96}) {
        for (const Kind& queries : kinds(d, 10)) {
          for (const Kind& labels : kinds(d, 20)) check_bound(kernels, queries, labels, {});
        }
      }
    });
  }
  at::globalContext().setFlushDenormal(false);
}

TEST(Int8Bound, HoldsForDividedRows) {
  for_each_variant([](const Int8Kernels& kernels) {
    for (Kind labels : kinds(72, 30)) {
      labels.rows = labels.rows.to(at::kHalf).to(at::kFloat);  // only such rows are divided
      if (!labels.rows.isfinite().all().item<bool>()) continue;
      const at::Tensor lengths = labels.rows.to(at::kDouble).norm(2, 1);
      const at::Tensor divisors = lengths.masked_fill(lengths.eq(0), 1.0);
      for (const Kind& queries : kinds(72, 40)) check_bound(kernels, queries, labels, divisors);
    }
  });
}

TEST(Int8Bound, HoldsWhereIntegersNeedMoreThan24Bits) {
  const Kind wide{"wide", unit(at::ones({6, 5000}) + random_rows(6, 5000, 50) * 0.1)};
  for_each_variant([&](const Int8Kernels& kernels) { check_bound(kernels, wide, wide, {}); });
}

TEST(Int8Bound, IsNarrowEnoughToLeaveLabelsOut) {
  // Of unit rows of the width 384: 1.6% of the product of the norms with codes of 8 bits, 2.6% with AVX2's limits.
  const at::Tensor rows = unit(random_rows(200, 384, 60));
  for_each_variant([&](const Int8Kernels& kernels) {
    const Coded q(kernels, rows, kernels.query_limits), l(kernels, rows, kernels.label_limits);
    double sum = 0;
    for (size_t i = 0; i < q.facts.size(); ++i) {
      const CodedNorms label = coded_norms(l.facts[i], l.width);
      const QueryWeights weights = query_weights(coded_norms(q.facts[i], q.width), 1.0);
      sum += double{weights.norm_weight} * label.norm + double{weights.residual_weight} * label.residual;
    }
    EXPECT_LT(sum / 200, kernels.query_limits.largest == 127 ? 0.016 : 0.026);
  });
}

}  // namespace
}  // namespace vixen

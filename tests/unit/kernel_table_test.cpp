// The kernel table: every row has a name, a family with a key, a CPU form for every instruction set, a reference, and a
// comparison of the two; every kernels.* key means the same for each of its kernels.
#include <cstdlib>
#include <set>
#include <string>

#include "base/check.hpp"
#include "config/keys.hpp"
#include "fixtures/kernel_comparisons.hpp"
#include "kernels/cuda_forms.hpp"
#include "kernels/cuda_kernels.hpp"
#include "kernels/head_norm.hpp"
#include "kernels/norm.hpp"
#include "kernels/rms_norm.hpp"

namespace vixen {
namespace {

using namespace test;

TEST(KernelTable, EveryRowHasAComparisonAndEveryComparisonARow) {
  const auto facts = kernel_row_facts();
  const auto comparisons = kernel_comparisons();
  std::set<std::string> rows, compared;
  for (const RowFacts& row : facts) EXPECT_TRUE(rows.insert(row.name).second) << row.name;
  for (const KernelComparison& comparison : comparisons)
    EXPECT_TRUE(compared.insert(comparison.row).second) << comparison.row;
  EXPECT_EQ(rows, compared);
}

TEST(KernelTable, EveryRowHasAFormForEveryInstructionSet) {
  for_each_isa([](const char* isa) {
    EXPECT_STREQ(cpu_kernels().isa, isa);
    for (const RowFacts& row : kernel_row_facts()) EXPECT_TRUE(row.on_cpu(cpu_kernels().table)) << row.name;
  });
}

TEST(KernelTable, PyTorchsVariableHoldsTheKernelsToFewerInstructions) {
  const char* variable = std::getenv("ATEN_CPU_CAPABILITY");
  const std::string before = variable != nullptr ? variable : "";
  const std::string best = cpu_variants().first[0]->isa;
  setenv("ATEN_CPU_CAPABILITY", "avx2", 1);
  EXPECT_EQ(cpu_variants().first[0]->isa, best == "avx512" ? "avx2" : best);
  setenv("ATEN_CPU_CAPABILITY", "default", 1);
  EXPECT_EQ(cpu_variants().count, 1);
  EXPECT_STREQ(cpu_variants().first[0]->isa, "baseline");
  if (variable != nullptr)
    setenv("ATEN_CPU_CAPABILITY", before.c_str(), 1);
  else
    unsetenv("ATEN_CPU_CAPABILITY");
}

TEST(KernelTable, EveryKernelMeetsItsReference) {
  const auto facts = kernel_row_facts();
  const auto comparisons = kernel_comparisons();
  ASSERT_EQ(facts.size(), comparisons.size());
  for (size_t i = 0; i < facts.size(); ++i) {
    ASSERT_EQ(facts[i].name, comparisons[i].row) << "rows and comparisons are in one order";
    for (const auto dtype : kStorages)
      for_each_isa([&](const char*) {
        expect_fused_meets_reference(comparisons[i], facts[i].family, KernelInputs(dtype, at::kCPU));
      });
  }
}

// What memory plans count, and FLOPs by counting the pairs one by one.
TEST(KernelTable, CostsAreWhatTheHeadersSay) {
  const KernelInputs in(at::kBFloat16, at::kCPU);
  const int64_t positions = in.packed.positions;
  const auto bytes = [](const at::Tensor& tensor) { return static_cast<int64_t>(tensor.nbytes()); };
  const auto comparisons = kernel_comparisons();
  const auto made = [&](const std::string& row) {
    for (const auto& comparison : comparisons)
      if (comparison.row == row) return comparison.run(in).back();
    return at::Tensor{};
  };
  EXPECT_EQ(bytes(made("attention_forward")), attention_statistics_bytes(positions, in.shape));
  EXPECT_EQ(bytes(made("norm_forward")), norm_statistics_bytes(positions));
  EXPECT_EQ(bytes(made("rms_forward")), rms_norm_statistics_bytes(positions));
  EXPECT_EQ(bytes(made("head_norm")), head_norm_statistics_bytes(positions, in.shape));
  EXPECT_EQ(bytes(in.packed.keys.sequence) + bytes(in.packed.keys.position), token_key_bytes(positions));
  int64_t squares = 0, causal_pairs = 0;
  for (const int64_t length : mixed_lengths(12)) {
    squares += length * length;
    for (int64_t i = 0; i < length; ++i) causal_pairs += i + 1;
  }
  const auto flops = [&](int64_t pairs) { return static_cast<double>(pairs * in.shape.heads * in.head_dim * 4); };
  EXPECT_EQ(attention_flops(positions, squares, in.head_dim, in.shape), flops(causal_pairs));
  AttentionShape both_ways = in.shape;
  both_ways.causal = false;
  EXPECT_EQ(attention_flops(positions, squares, in.head_dim, both_ways), flops(squares));
}

// Float64 has references only.
TEST(KernelChoices, FusedIsRefusedWhereThereIsNone) {
  const auto facts = kernel_row_facts();
  const auto comparisons = kernel_comparisons();
  const KernelInputs in(at::kDouble, at::kCPU);
  for (size_t i = 0; i < facts.size(); ++i) {
    const ScopedChoices choices(facts[i].family, KernelChoice::kFused);
    try {
      comparisons[i].run(in);
      ADD_FAILURE() << facts[i].name << " ran, whatever it was";
    } catch (const UserError& error) {
      const std::string text = error.what();
      const bool attention = facts[i].family == KernelFamily::kAttention;
      const std::string start =
          std::string(key_of(facts[i].family)) + " = fused: no fused " + (attention ? "attention" : facts[i].name);
      EXPECT_EQ(text.find(start), 0u) << facts[i].name << ": " << text;
      EXPECT_NE(text.find("use auto or reference"), text.npos) << text;
    }
  }
}

TEST(KernelChoices, EachKeyGovernsItsOwnFamilyAndNoOther) {
  const auto facts = kernel_row_facts();
  const auto comparisons = kernel_comparisons();
  const KernelInputs in(at::kDouble, at::kCPU);
  for (size_t i = 0; i < facts.size(); ++i) {
    SCOPED_TRACE(facts[i].name);
    const ScopedChoices choices(facts[i].family, KernelChoice::kReference, KernelChoice::kFused);
    EXPECT_NO_THROW(comparisons[i].run(in));
  }
}

TEST(KernelChoices, AutoIsTheFusedKernelToTheBit) {
  const auto facts = kernel_row_facts();
  const auto comparisons = kernel_comparisons();
  const KernelInputs in(at::kFloat, at::kCPU);
  for (size_t i = 0; i < facts.size(); ++i) {
    std::vector<at::Tensor> fused;
    {
      const ScopedChoices choices(facts[i].family, KernelChoice::kFused);
      fused = comparisons[i].run(in);
    }
    const auto got = comparisons[i].run(in);
    for (size_t j = 0; j < got.size(); ++j) EXPECT_TRUE(at::equal(got[j], fused[j])) << facts[i].name << " " << j;
  }
}

TEST(KernelChoices, EveryFamilyHasAKeyAndEveryKeyAFamily) {
  std::set<std::string> families, keys;
  for (const KernelFamilyKey& row : kKernelFamilies) families.insert(row.key);
  for (const Key& key : all_keys())
    if (key.section() == "kernels") keys.insert(key.name);
  EXPECT_EQ(families, keys);
  for (const RowFacts& row : kernel_row_facts()) EXPECT_TRUE(families.count(key_of(row.family))) << row.name;
  for (const KernelFamilyKey& row : kKernelFamilies) {
    const ScopedChoices choices(row.family, KernelChoice::kReference, KernelChoice::kFused);
    for (const KernelFamilyKey& other : kKernelFamilies)
      EXPECT_EQ(kernel_choice(other.family),
                other.family == row.family ? KernelChoice::kReference : KernelChoice::kFused);
  }
}

// What a GPU runs, by values only, so that none is needed; the launchers are in builds for CUDA.
TEST(KernelChoices, AttentionOnCudaIsByDtypeLengthAndDropout) {
  const at::Device cuda(at::kCUDA, 0), cpu(at::kCPU);
  const Dropout none{}, tenth{.p = 0.1};
  const bool built = cuda_kernels().attention_forward != nullptr;
  const auto family = KernelFamily::kAttention;
  struct Row {
    at::ScalarType dtype;
    int64_t head_dim, longest, sharing;
    Dropout dropout;
    AttentionForm form;
  };
  constexpr auto kReference = AttentionForm::kReference, kShort = AttentionForm::kFused, kFlash = AttentionForm::kFlash;
  const Row rows[] = {
      {at::kBFloat16, 64, 64, 1, none, kShort},    {at::kBFloat16, 64, 65, 1, none, kFlash},
      {at::kBFloat16, 64, 256, 1, tenth, kShort},  {at::kBFloat16, 64, 257, 1, tenth, kReference},
      {at::kFloat, 64, 256, 1, none, kShort},      {at::kFloat, 64, 257, 1, none, kReference},
      {at::kBFloat16, 60, 256, 1, none, kShort},   {at::kBFloat16, 60, 257, 1, none, kReference},
      {at::kFloat, 128, 150, 1, none, kShort},     {at::kFloat, 128, 160, 1, none, kReference},
      {at::kFloat, 128, 3, 1, tenth, kShort},      {at::kFloat, 132, 3, 1, tenth, kReference},
      {at::kBFloat16, 256, 3, 1, none, kFlash},    {at::kFloat, 8, 128, 16, tenth, kShort},
      {at::kFloat, 8, 128, 17, tenth, kReference}, {at::kBFloat16, 8, 64, 33, none, kFlash},
      {at::kHalf, 64, 3, 1, none, kReference},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(testing::Message() << c10::toString(row.dtype) << ", heads of " << row.head_dim << ", longest "
                                    << row.longest << ", dropout " << row.dropout.p);
    const AttentionShape shape{.heads = 2 * row.sharing, .max_seqlen = row.longest, .kv_heads = 2};
    const auto form = [&](at::Device device) {
      return attention_form(device, row.dtype, row.head_dim, shape, row.dropout);
    };
    const auto on_cpu = row.dtype == at::kHalf ? kReference : kShort;
    EXPECT_EQ(form(cuda), built ? row.form : kReference);
    EXPECT_EQ(form(cpu), on_cpu);
    {
      const ScopedChoices choices(family, KernelChoice::kReference, KernelChoice::kFused);
      EXPECT_EQ(form(cuda), kReference);
      EXPECT_EQ(form(cpu), kReference);
    }
    const ScopedChoices choices(family, KernelChoice::kFused);
    for (const auto& [device, expected] : {std::pair{cuda, built ? row.form : kReference}, {cpu, on_cpu}}) {
      if (expected == kReference) {
        EXPECT_THROW(form(device), UserError);
      } else {
        EXPECT_EQ(form(device), expected);
      }
    }
  }
}

// Rows for which a block's shared memory has no room on sm_80.
TEST(KernelChoices, NormsOfVeryWideRowsAreTheReferenceOnCuda) {
  EXPECT_TRUE(rms_backward_fits(at::kFloat, 13800));
  EXPECT_FALSE(rms_backward_fits(at::kFloat, 13900));
  EXPECT_TRUE(norm_backward_fits(at::kFloat, 10400));
  EXPECT_FALSE(norm_backward_fits(at::kFloat, 10500));
  EXPECT_TRUE(norm_backward_fits(at::kBFloat16, 13800));
  EXPECT_FALSE(norm_backward_fits(at::kBFloat16, 13900));
  EXPECT_TRUE(norm_fits(at::kFloat, 41600));
  EXPECT_FALSE(norm_fits(at::kFloat, 41700));
}

}  // namespace
}  // namespace vixen

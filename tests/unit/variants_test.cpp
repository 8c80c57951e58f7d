// Every variant of every backbone by its sample: names of tensors, folders read and written, gradients, and what a rank
// without rows announces. A new row of a table of variants needs a sample (fixtures/variant_samples.hpp) and nothing
// here.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "fixtures/encoder_checks.hpp"
#include "fixtures/lora_encoder.hpp"
#include "fixtures/variant_samples.hpp"
#include "model/weights/weight_files.hpp"

namespace vixen {
namespace {

using namespace testing;
using test::TempDir;

EncoderOptions options_of(const std::filesystem::path& folder, int64_t image_width = kTinyImageWidth) {
  EncoderOptions options;
  options.model.path = folder.string();
  options.image_width = image_width;
  options.model.fusion_heads = 3;
  return options;
}

PackedBatch batch_of() {
  return tiny_batch({{1, 6, 1}, {2, 4, 0}, {3, 1, 2}, {4, 8, 0}}, kSampleVocabulary);
}

const PassContext kTraining{.training = true, .seed = 3, .step = 8};

TEST(Variants, EveryRowHasASample) {
  std::vector<std::string> sampled;
  for (const auto& sample : variant_samples()) sampled.push_back(sample.model_type);
  EXPECT_EQ(sampled, variant_types());
}

TEST(Variants, AreFoundByTheirType) {
  struct Row {
    std::string_view model_type;
  };
  constexpr Row kRows[] = {{"bert"}, {"distilbert"}};
  EXPECT_EQ(types_of(kRows), "bert, distilbert");
  EXPECT_EQ(find_variant(kRows, "distilbert"), kRows + 1);
  EXPECT_EQ(find_variant(kRows, "gpt2"), nullptr);
  EXPECT_EQ(find_variant(kRows, ""), nullptr);
}

TEST(Variants, NoTypeIsTwoRows) {
  auto types = variant_types();
  std::sort(types.begin(), types.end());
  EXPECT_EQ(std::adjacent_find(types.begin(), types.end()), types.end());
}

class VariantTest : public ::testing::TestWithParam<VariantSample> {
 protected:
  void SetUp() override { write_variant(folder_.path(), GetParam()); }
  TempDir folder_;
};

TEST_P(VariantTest, TensorsAreThoseOfTransformers) {
  const WeightFiles files(folder_.path());
  std::set<std::string> found, expected;
  for (const std::string& name : files.names())
    if (name.starts_with(GetParam().layer)) found.insert(name.substr(GetParam().layer.size()));
  expected.insert(GetParam().tensors.begin(), GetParam().tensors.end());
  EXPECT_EQ(found, expected);
}

TEST_P(VariantTest, ReadsFoldersWithAHeadAndWritesItsOwn) {
  const PackedBatch batch = batch_of();
  LoadedEncoder plain(options_of(folder_.path()));
  const at::Tensor h = plain.embed(batch);
  const TempDir headed, saved;
  write_variant(headed.path(), GetParam(), sample_prefix(GetParam().model_type));
  EXPECT_TRUE(LoadedEncoder(options_of(headed.path())).embed(batch).equal(h));

  plain.encoder->files().save(saved.path());
  const auto json = nlohmann::json::parse(read_text(saved.path() / "config.json"));
  EXPECT_EQ(json["architectures"], nlohmann::json::array({GetParam().model_class}));
  EXPECT_EQ(json["model_type"], GetParam().model_type);
  EXPECT_EQ(WeightFiles(saved.path()).names(), WeightFiles(folder_.path()).names());
  EXPECT_TRUE(LoadedEncoder(options_of(saved.path())).embed(batch).equal(h));
}

TEST_P(VariantTest, GradientsByCentralDifferences) {
  LoadedEncoder whole(options_of(folder_.path()));
  // A bias of the keys shifts all scores of a query alike: its slope is next to nothing.
  const GradientTolerance tolerance{.step = 3e-3, .relative = 5e-3, .absolute = 2e-4};
  expect_encoder_gradients(whole, batch_of(), kTraining, tolerance);
  LoraEncoder adapted(lora_options(folder_.path(), 3));
  adapted.stir();
  expect_encoder_gradients(adapted, batch_of(), kTraining, tolerance);
}

// What is announced for a batch, and the gradients at that moment.
struct Announced {
  std::vector<std::pair<int, int>> ranges;
  std::vector<at::Tensor> gradients;
};
Announced announced_for(LoadedEncoder& loaded, const PackedBatch& batch) {
  Announced all;
  const at::Tensor direction = wave({batch.n_sequences(), loaded.encoder->width()}, 0.2, 0.9);
  loaded.backward(batch, direction, kTraining, [&](int first, int last) {
    all.ranges.emplace_back(first, last);
    all.gradients.push_back(loaded.store.flat_grads().clone());
  });
  return all;
}

// Each announcement is a collective: every rank makes the same ones in the same order, with rows or without.
TEST_P(VariantTest, ARankWithoutRowsAnnouncesTheSameRanges) {
  struct Case {
    Fusion fusion;
    int64_t image_width, rank, recompute;
  };
  for (const Case& c :
       {Case{Fusion::kEarly, 0, 0, 0}, Case{Fusion::kEarly, kTinyImageWidth, 0, 1}, Case{Fusion::kLate, 0, 0, 0},
        Case{Fusion::kLate, kTinyImageWidth, 0, 2}, Case{Fusion::kEarly, 0, 3, 1},
        Case{Fusion::kEarly, kTinyImageWidth, 3, 0}, Case{Fusion::kLate, kTinyImageWidth, 3, 0}}) {
    SCOPED_TRACE(fmt::format("{} fusion, pictures of width {}, rank {}", c.fusion == Fusion::kLate ? "late" : "early",
                             c.image_width, c.rank));
    EncoderOptions options = options_of(folder_.path(), c.image_width);
    options.model.fusion = c.fusion;
    options.lora.rank = c.rank;
    options.lora.modules = "q,v,down";
    LoraEncoder loaded(options);
    loaded.stir();
    loaded.encoder->set_recompute_layers(c.recompute);
    const PackedBatch some =
        c.image_width > 0 ? batch_of() : tiny_batch({{1, 6, 0}, {2, 4, 0}, {4, 8, 0}}, kSampleVocabulary);
    const Announced full = announced_for(loaded, some);
    const at::Tensor gradients = loaded.store.flat_grads().clone();
    EXPECT_GT(largest(gradients), 0);
    EXPECT_GE(full.ranges.size(), 2u) << "a layer is announced while the ones before it are computed";

    std::vector<int> times(static_cast<size_t>(loaded.store.count()));
    for (size_t i = 0; i < full.ranges.size(); ++i)
      for (int p = full.ranges[i].first; p < full.ranges[i].second; ++p) {
        ++times[static_cast<size_t>(p)];
        const auto& info = loaded.store.info(p);
        EXPECT_TRUE(
            full.gradients[i].narrow(0, info.offset, info.size).equal(gradients.narrow(0, info.offset, info.size)))
            << info.name << " changes after its announcement";
      }
    for (int p = 0; p < loaded.store.count(); ++p)
      EXPECT_EQ(times[static_cast<size_t>(p)], loaded.store.trained(p) ? 1 : 0) << loaded.store.info(p).name;

    const Announced none = announced_for(loaded, tiny_batch({}, kSampleVocabulary));
    EXPECT_EQ(none.ranges, full.ranges);
    EXPECT_EQ(largest(loaded.store.flat_grads()), 0);
    // Text alone beside an image adapter, too.
    EXPECT_EQ(announced_for(loaded, tiny_batch({{1, 6, 0}}, kSampleVocabulary)).ranges, full.ranges);
  }
}

TEST_P(VariantTest, ActivationsServeOneBackwardPassOfTheirStep) {
  LoadedEncoder loaded(options_of(folder_.path()));
  const PackedBatch batch = batch_of();
  std::unique_ptr<Encoder::Saved> saved;
  const at::Tensor h = loaded.encoder->forward(batch, kTraining, &saved);
  PassContext other = kTraining;
  other.step = 9;
  EXPECT_THROW(loaded.encoder->backward(h, batch, other, *saved, {}), std::exception);
  loaded.encoder->backward(h, batch, kTraining, *saved, {});
  EXPECT_THROW(loaded.encoder->backward(h, batch, kTraining, *saved, {}), std::exception);
}

INSTANTIATE_TEST_SUITE_P(All, VariantTest, ::testing::ValuesIn(variant_samples()),
                         [](const auto& test) { return test.param.model_type; });

}  // namespace
}  // namespace vixen

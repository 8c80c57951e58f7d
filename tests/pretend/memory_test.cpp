// The memory plan of a device against the bytes that are counted on it: what lies there all the time, and a step's
// peak.
//   sequences of one length, so that the plan knows the sizes of attention's products
#include "plan/memory_plan.hpp"

#include "base/check.hpp"
#include "pretend/training_fixture.hpp"
#include "train/optimiser.hpp"

namespace vixen::pretend {
namespace {

constexpr int64_t kLength = 24;

class PretendMemoryTest : public TrainingFixture {
 protected:
  static void SetUpTestSuite() {
    TrainingFixture::SetUpTestSuite();
    const auto folder = dir_->path();
    const auto sha = test::write_toy_model(
        folder / "wide-model", {.width = 64, .layers = 3, .heads = 2, .feed_forward = 256, .positions = 64});
    for (const char* type : {"qwen2", "qwen3"})
      test::write_tiny_decoder(folder / (std::string("wide-") + type), {.model_type = type,
                                                                        .width = 64,
                                                                        .layers = 3,
                                                                        .heads = 4,
                                                                        .head_dim = 16,
                                                                        .feed_forward = 160,
                                                                        .vocabulary = 120});
    auto content = test::toy_content({.n_train = 240, .n_labels = 600, .max_length = kLength, .tokenizer_sha256 = sha});
    for (auto* table : {&content.train, &content.test, &content.labels}) {
      OwnedRagged even;
      for (int64_t i = 0; i < table->tokens.view().size(); ++i) {
        const auto row = table->tokens.view()[i];
        std::vector<int32_t> tokens(row.begin(), row.end());
        tokens.resize(static_cast<size_t>(kLength), tokens[1]);
        append_row(even, tokens);
      }
      table->tokens = even;
    }
    write_dataset(folder / "even.h5", content);
  }

  static Config wide(Config settings, const char* model) {
    settings.data.path = (dir_->path() / "even.h5").string();
    settings.model.path = (dir_->path() / model).string();
    settings.train.batch_size = 48;
    settings.prototype.free_vectors = 64;
    return settings;
  }
  static std::vector<Config> all_settings() {
    std::vector<Config> all;
    for (const Compute compute : {Compute::kFloat32, Compute::kBfloat16}) {
      all.push_back(wide(bert(), "wide-model"));
      all.push_back(all.back());
      all.back().train.method = Method::kNgame;
      all.push_back(wide(decoder(), "wide-qwen2"));
      all.push_back(wide(decoder(), "wide-qwen3"));
      all.back().lora.dropout = 0;
      for (auto& settings : std::span(all).last(4)) settings.model.compute = compute;
    }
    return all;
  }
  static std::string name_of(const Config& settings) {
    return fmt::format("{}, {}, {}", settings.model.path.substr(settings.model.path.rfind('/') + 1),
                       vixen::name_of(settings.train.method),
                       settings.model.compute == Compute::kFloat32 ? "float32" : "bfloat16");
  }

  static int64_t planned(const MemoryPlan& plan, std::initializer_list<const char*> names) {
    int64_t sum = 0;
    for (const char* name : names)
      for (const auto* parts : {&plan.resident, &plan.step})
        for (const MemoryPart& part : *parts)
          if (part.name == name) sum += part.bytes;
    return sum;
  }
  static void expect_near(const std::string& what, int64_t planned, int64_t counted, double gap = 0.05) {
    fmt::print("{:48} planned {:>10} counted {:>10}  {:+.1f}%\n", what, planned, counted,
               counted == 0 ? 0.0 : 100.0 * static_cast<double>(planned - counted) / static_cast<double>(counted));
    EXPECT_NEAR(static_cast<double>(planned), static_cast<double>(counted), gap * static_cast<double>(counted)) << what;
  }
};

TEST_F(PretendMemoryTest, WhatLiesThereAllTheTime) {
  for (const Config& settings : all_settings()) {
    SCOPED_TRACE(name_of(settings));
    fmt::print("{}\n", name_of(settings));
    const Dataset dataset(settings.data.path);
    const int64_t before = bytes();
    auto trainer = make(settings, dataset, device());
    auto& parts = trainer->parts();
    const auto& plan = parts.memory;
    int64_t counted = bytes() - before;
    expect_near("everything but batches", plan.resident_bytes() - planned(plan, {"batches packed ahead"}), counted);

    // Part by part: what goes when it is dropped.
    const auto drop = [&](const auto& free) {
      const int64_t then = bytes();
      free();
      return then - bytes();
    };
    const auto table = drop([&] { parts.bank.reset(); });
    expect_near("query bank", planned(plan, {"query bank (fp16)"}), table);
    parts.step.reset();
    const auto moments = drop([&] { parts.optimiser.reset(); });
    const int64_t free_vectors = planned(plan, {"free vectors, gradients, moments"});
    // The step held a gradient of the free vectors and the optimiser two moments of them, which are planned together.
    expect_near("moments", planned(plan, {"optimiser moments"}) + free_vectors / 2, moments);
  }
}

TEST_F(PretendMemoryTest, TablesGoToTheHostWithTheirBytes) {
  auto settings = wide(bert(), "wide-model");
  const Dataset dataset(settings.data.path);
  const auto resident = [&](TableHome tables, MemoryPlan* plan) {
    settings.train.tables = tables;
    const int64_t before = bytes();
    const auto trainer = make(settings, dataset, device());
    *plan = trainer->parts().memory;
    return bytes() - before;
  };
  MemoryPlan on_device, on_host;
  const int64_t all = resident(TableHome::kDevice, &on_device), less = resident(TableHome::kHost, &on_host);
  expect_near("query bank and centroids", planned(on_device, {"centroids", "query bank (fp16)"}), all - less);
  EXPECT_EQ(planned(on_host, {"centroids", "query bank (fp16)"}), 0);
}

TEST_F(PretendMemoryTest, WhatIsFreeOnTheDeviceIsTheBudget) {
  auto settings = wide(bert(), "wide-model");
  const Dataset dataset(settings.data.path);
  struct Restore {
    ~Restore() { set_free_bytes(int64_t{1} << 50); }
  } restore;
  const auto refusal = [&] {
    try {
      make(settings, dataset, device());
    } catch (const UserError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  set_free_bytes(1'400'000'000);
  const int64_t before = bytes();
  const auto said = refusal();
  const std::string least = "free memory of the device of 1.40 GB a rank: expected at least ";
  ASSERT_EQ(said.substr(0, least.size()), least) << said;
  EXPECT_EQ(bytes(), before) << "nothing was allocated";
  set_free_bytes(static_cast<int64_t>(std::stod(said.substr(least.size())) * 1e9));
  const auto trainer = make(settings, dataset, device());
  EXPECT_LE(trainer->parts().memory.peak_bytes(), trainer->parts().memory.budget_bytes);
  set_free_bytes(2'000'000'000);
  settings.train.memory_gb = 3;
  EXPECT_EQ(refusal(), "train.memory_gb is 3, but 2.00 GB are free on the device of rank 0: expected at most that");
  settings.train.memory_gb = 1.9;
  EXPECT_EQ(refusal(), "");
}

TEST_F(PretendMemoryTest, TheStepAtItsFullest) {
  for (auto settings : all_settings())
    for (const int64_t again : {0, 2}) {
      if (again > 0 && settings.model.compute == Compute::kBfloat16) continue;
      settings.train.recompute_layers = again;
      SCOPED_TRACE(fmt::format("{}, {} layers again", name_of(settings), again));
      fmt::print("{}, {} layers again\n", name_of(settings), again);
      const Dataset dataset(settings.data.path);
      auto trainer = make(settings, dataset, device());
      trainer->prepare();
      trainer->run_steps(1);  // what is made once
      auto& parts = trainer->parts();
      const auto order = epoch_order(parts, 0);
      const auto input = parts.step->prepare(parts.planner->plan(0, 1, order.view()), dataset, parts.pack);
      auto shape = memory_shape(parts.config, data_shape(dataset, parts.pack), *parts.encoder, parts.store, 1, 1,
                                /*cpu=*/false);
      const PackedBatch& batch = input.chunks.front();
      const int64_t length = batch.max_seqlen;
      ASSERT_EQ(batch.n_positions(), batch.n_sequences() * length);
      shape.batch = {.positions = batch.n_positions(),
                     .sequences = batch.n_sequences(),
                     .images = 0,
                     .sum_squared_lengths = batch.n_positions() * length};
      const auto plan = predict_memory(shape, *parts.encoder, parts.memory.choice);
      const int64_t before = bytes();
      reset_peak_bytes();
      parts.step->accumulate(input);
      expect_near("a step at its fullest", plan.step_bytes(), peak_bytes() - before);

      const PassContext context{true, 1, 1};
      std::unique_ptr<Encoder::Saved> saved;
      const auto h = parts.encoder->forward(batch, context, &saved);
      const auto costs = parts.encoder->costs().activation_bytes(shape.batch, /*cpu=*/false);
      const int64_t layers = parts.encoder->n_layers();
      const int64_t kept = (layers - again) * costs.kept_a_layer + again * costs.recomputed_a_layer + costs.ends;
      expect_near("activations kept", kept, bytes() - before);
      reset_peak_bytes();
      parts.encoder->backward(at::ones_like(h), batch, context, *saved, {});
      if (again == 0) expect_near("backward of the encoder", kept + costs.transient_backward, peak_bytes() - before);
      saved.reset();

      const int64_t empty = bytes();
      reset_peak_bytes();
      parts.encoder->forward(batch, context, nullptr);
      expect_near("a pass that keeps nothing", costs.transient_forward, peak_bytes() - empty);
    }
}

}  // namespace
}  // namespace vixen::pretend

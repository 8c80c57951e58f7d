// The memory plan against what steps really take, the order in which a budget is kept, and the cutting of batches.
#include "plan/memory_plan.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "base/check.hpp"
#include "device/device.hpp"
#include "device/tracked_memory.hpp"
#include "eval/evaluator.hpp"
#include "fixtures/single_rank.hpp"
#include "fixtures/tiny_decoder.hpp"
#include "fixtures/toy_dataset.hpp"
#include "fixtures/toy_model.hpp"
#include "model/make_encoder.hpp"
#include "model/pack_options.hpp"
#include "model/prototype.hpp"
#include "train/chunked_encoder.hpp"
#include "train/trainer.hpp"

namespace vixen {
namespace {

constexpr int64_t kVocabulary = 300;

// Models wide enough, and batches large enough, that activations are most of the memory.
class MemoryPlanTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    track_tensor_memory();
    set_threads(2);
    dir_ = new test::TempDir;
    const auto sha = test::write_toy_model(
        path("tiny"),
        {.width = 128, .layers = 4, .heads = 4, .feed_forward = 512, .vocabulary = kVocabulary, .positions = 64});
    test::write_toy_model(
        path("minilm"),
        {.width = 384, .layers = 3, .heads = 12, .feed_forward = 1536, .vocabulary = kVocabulary, .positions = 64});
    test::write_tiny_decoder(path("decoder"), {.width = 192,
                                               .layers = 4,
                                               .heads = 6,
                                               .kv_heads = 2,
                                               .head_dim = 32,
                                               .feed_forward = 512,
                                               .vocabulary = kVocabulary});
    test::write_toy_dataset(path("data.h5"), {.n_train = 450,
                                              .n_test = 20,
                                              .n_labels = 200,
                                              .vocabulary = kVocabulary,
                                              .max_length = 30,
                                              .image_width = 64,
                                              .tokenizer_sha256 = sha});
  }
  static void TearDownTestSuite() { delete dir_; }

  static std::string path(const std::string& name) { return (dir_->path() / name).string(); }

  static Config config(const std::string& model) {
    Config config;
    config.data.path = path("data.h5");
    config.data.prefetch = 1;
    config.model.path = path(model);
    config.train.batch_size = 150;
    config.train.epochs = 3;
    config.prototype.free_vectors = 128;
    config.prototype.heads = 4;
    config.prototype.feed_forward = 128;
    if (model == "minilm") config.train.batch_size = 60;
    if (model == "decoder") {
      config.lora.rank = 16;
      config.lora.alpha = 16;
    }
    return config;
  }

  static std::unique_ptr<Trainer> make(const Config& config, const Dataset& dataset) {
    const auto comm = std::make_shared<test::SingleRank>();
    return std::make_unique<Trainer>(config, dataset, label_weights(config, dataset, *comm), comm);
  }

  // An encoder whose parameters are registered only, with the prototypes', and its shape.
  struct Planned {
    ParameterStore store;
    std::unique_ptr<LayeredEncoder> encoder;
    std::unique_ptr<PrototypeNetwork> network;
    MemoryShape shape;
  };
  static std::unique_ptr<Planned> plan_of(const Config& config, const Dataset& dataset, int64_t world_size = 1,
                                          bool cpu = true) {
    auto planned = std::make_unique<Planned>();
    planned->encoder = make_encoder({config.model, config.lora, image_width(config, dataset)}, planned->store);
    planned->network = std::make_unique<PrototypeNetwork>(config.prototype, planned->encoder->width(), planned->store);
    planned->shape = memory_shape(config, data_shape(dataset, pack_options(config, *planned->encoder, dataset)),
                                  *planned->encoder, planned->store, world_size, world_size, cpu);
    return planned;
  }

  static inline test::TempDir* dir_ = nullptr;
};

BatchShape shape_of(const StepInput& input) {
  BatchShape shape;
  for (const PackedBatch& batch : input.chunks) {
    shape.positions += batch.n_positions();
    shape.sequences += batch.n_sequences();
    shape.images += batch.image_embeddings.defined() ? batch.image_embeddings.size(0) : 0;
    shape.sum_squared_lengths += batch.cu_seqlens.diff().to(at::kLong).square().sum().item<int64_t>();
    shape.longest = std::max(shape.longest, batch.max_seqlen);
  }
  return shape;
}

TEST_F(MemoryPlanTest, PredictsTheMeasuredPeakOfAStep) {
  const std::vector<MemoryChoice> all = {{0, 1}, {3, 1}, {0, 2}, {0, 5}, {3, 5}};
  const std::vector<MemoryChoice> some = {{0, 1}, {2, 1}, {0, 5}};
  for (const auto& [model, choices] : {std::pair("tiny", all), {"minilm", some}, {"decoder", some}}) {
    auto settings = config(model);
    settings.run.checkpoint_async = false;  // no checkpoint is written
    const Dataset dataset(settings.data.path);
    int64_t kept_all = 0;
    for (const MemoryChoice choice : choices) {
      settings.train.chunks = choice.chunks;
      settings.train.recompute_layers = choice.recompute_layers;
      const int64_t before = tensor_bytes();
      auto trainer = make(settings, dataset);
      trainer->prepare();
      // The largest batch of those that run.
      auto shape = plan_of(settings, dataset)->shape;
      shape.batch = {};
      auto& parts = trainer->parts();
      const auto order = epoch_order(parts, 0);
      for (int64_t step = 0; step < 2; ++step) {
        const auto batch = shape_of(parts.step->prepare(parts.planner->plan(0, step, order), dataset, parts.pack));
        if (batch.positions > shape.batch.positions) shape.batch = batch;
      }
      reset_peak_tensor_bytes();
      trainer->run_steps(2);
      const int64_t measured = peak_tensor_bytes() - before;
      const auto plan = predict_memory(shape, *parts.encoder, choice);
      const int64_t predicted = plan.resident_bytes() + plan.step_bytes();
      const double ratio = static_cast<double>(predicted) / static_cast<double>(measured);
      fmt::print(
          "{:<8} {} layers again, {} chunks: {:.1f} MB measured, {:.1f} MB planned ({:+.1f}%), of which held "
          "{:.1f} MB\n",
          model, choice.recompute_layers, choice.chunks, static_cast<double>(measured) / 1e6,
          static_cast<double>(predicted) / 1e6, 100 * (ratio - 1), static_cast<double>(plan.resident_bytes()) / 1e6);
      EXPECT_NEAR(ratio, 1, 0.1) << model << ", " << choice_text(plan, parts.encoder->n_layers());
      if (choice == MemoryChoice{0, 1})
        kept_all = measured;
      else
        EXPECT_LT(measured, kept_all);
    }
  }
}

// Of a rank's own rows and, on the first, of what all have; beside a GPU pinned, in blocks of powers of two.
TEST_F(MemoryPlanTest, ASnapshotIsHostMemory) {
  auto settings = config("minilm");
  const Dataset dataset(settings.data.path);
  const auto plan_with = [&](bool snapshot, int64_t world_size, bool cpu) {
    settings.run.checkpoint_async = snapshot;
    const auto planned = plan_of(settings, dataset, world_size, cpu);
    planned->shape.data.labels = 1'000'000;
    planned->shape.data.queries = 300'000;
    return predict_memory(planned->shape, *planned->encoder, {0, 1});
  };
  const auto cpu = plan_with(true, 1, true), cpu_without = plan_with(false, 1, true);
  const auto gpu = plan_with(true, 1, false), gpu_without = plan_with(false, 1, false);
  const int64_t snapshot = cpu.resident_bytes() - cpu_without.resident_bytes();
  const int64_t pinned = gpu.host_bytes() - gpu_without.host_bytes();
  const auto planned = plan_of(settings, dataset);
  EXPECT_GT(snapshot, 3 * 4 * planned->shape.trained_elements);
  EXPECT_GE(pinned, snapshot);
  EXPECT_LT(pinned, 2 * snapshot);
  EXPECT_EQ(cpu.peak_bytes() - cpu_without.peak_bytes(), snapshot) << "a part of the budget";
  EXPECT_EQ(gpu.peak_bytes(), gpu_without.peak_bytes());
  EXPECT_LT(plan_with(true, 4, true).resident_bytes() - plan_with(false, 4, true).resident_bytes(), snapshot);
}

TEST_F(MemoryPlanTest, HoldsTheFrozenBaseOnce) {
  const auto settings = config("decoder");
  const Dataset dataset(settings.data.path);
  const auto planned = plan_of(settings, dataset);
  const int64_t before = tensor_bytes();
  planned->store.allocate(at::kCPU, at::kFloat);
  planned->encoder->files().load(0);
  const int64_t loaded = tensor_bytes() - before;
  const int64_t buffers = 2 * 4 * planned->store.elements();
  // Beside it lie the rotation tables, which are as long as the positions that the model knows.
  EXPECT_NEAR(static_cast<double>(loaded), static_cast<double>(planned->shape.frozen_bytes + buffers), 100e3);
  EXPECT_GT(planned->shape.mapped_bytes, 0) << "single tensors in the right dtype stay in their file";
}

TEST_F(MemoryPlanTest, WorstBatchIsNotExceeded) {
  const auto settings = config("decoder");
  const Dataset dataset(settings.data.path);
  auto trainer = make(settings, dataset);
  const auto data = plan_of(settings, dataset)->shape.data;
  const auto worst = worst_batch(data, settings.train.batch_size, settings.train.batch_size),
             mean = mean_batch(data, settings.train.batch_size, settings.train.batch_size);
  double positions = 0;
  int64_t steps = 0;
  for (uint64_t epoch = 0; epoch < 5; ++epoch) {
    const auto& parts = trainer->parts();
    const auto order = epoch_order(parts, epoch);
    for (int64_t step = 0; step < parts.planner->steps_per_epoch(); ++step, ++steps) {
      const auto batch = shape_of(parts.step->prepare(parts.planner->plan(epoch, step, order), dataset, parts.pack));
      EXPECT_LE(batch.positions, worst.positions);
      EXPECT_LE(batch.images, worst.images);
      EXPECT_LE(batch.sum_squared_lengths, worst.sum_squared_lengths);
      positions += static_cast<double>(batch.positions);
    }
  }
  EXPECT_NEAR(positions / static_cast<double>(steps) / static_cast<double>(mean.positions), 1, 0.03);
  EXPECT_LT(static_cast<double>(worst.positions), 1.3 * static_cast<double>(mean.positions));
}

TEST_F(MemoryPlanTest, BudgetIsKeptInOrder) {
  auto settings = config("minilm");
  settings.train.batch_size = 4000;  // planned only: steps larger than the passes between them
  const Dataset dataset(settings.data.path);
  const auto planned = plan_of(settings, dataset);
  const auto& encoder = *planned->encoder;
  const auto peak = [&](int64_t recompute, int64_t chunks) {
    return predict_memory(planned->shape, encoder, {recompute, chunks}).peak_bytes();
  };
  const auto chosen = [&](int64_t budget) { return plan_memory(planned->shape, encoder, budget).choice; };
  EXPECT_EQ(chosen(0), (MemoryChoice{0, 1})) << "no budget: everything is kept";
  EXPECT_EQ(chosen(peak(0, 1)), (MemoryChoice{0, 1}));
  EXPECT_EQ(chosen(peak(0, 1) - 1), (MemoryChoice{1, 1})) << "then the fewest layers";
  EXPECT_EQ(chosen(peak(1, 1) - 1), (MemoryChoice{2, 1}));
  const auto cached = chosen(peak(3, 1) - 1);
  EXPECT_EQ(cached.recompute_layers, 0) << "then chunks, which keep their activations";
  EXPECT_GT(cached.chunks, 1);
  EXPECT_LE(peak(0, cached.chunks), peak(3, 1) - 1);
  EXPECT_GT(peak(0, cached.chunks - 1), peak(3, 1) - 1) << "the fewest";
  // With the chunks given, layers are what is left.
  settings.train.chunks = 2;
  const auto halves = plan_of(settings, dataset);
  EXPECT_EQ(plan_memory(halves->shape, encoder, peak(0, 2)).choice, (MemoryChoice{0, 2}));
  EXPECT_EQ(plan_memory(halves->shape, encoder, peak(0, 2) - 1).choice, (MemoryChoice{1, 2}));
}

TEST_F(MemoryPlanTest, TablesOfAGpuGoToHostMemoryFirst) {
  auto settings = config("minilm");
  settings.train.batch_size = 4000;
  const Dataset dataset(settings.data.path);
  const auto made = [&] {
    auto planned = plan_of(settings, dataset, 1, /*cpu=*/false);
    planned->shape.data.labels = 1'000'000;
    planned->shape.data.queries = 300'000;
    return planned;
  };
  const auto planned = made();
  const auto& encoder = *planned->encoder;
  constexpr auto kDevice = TablePlacement::kDevice, kHost = TablePlacement::kHost;
  const auto predict = [&](const MemoryChoice& choice) { return predict_memory(planned->shape, encoder, choice); };
  const auto peak = [&](const MemoryChoice& choice) { return predict(choice).peak_bytes(); };
  const auto chosen = [&](int64_t budget) { return plan_memory(planned->shape, encoder, budget).choice; };

  // Centroids and bank, and nothing else, are no longer on the device.
  const int64_t tables = 1'000'000 * int64_t{384} * 4 + 300'000 * int64_t{384} * 2;
  const auto on_device = predict({0, 1, kDevice}), on_host = predict({0, 1, kHost});
  EXPECT_EQ(on_host.host_bytes() - on_device.host_bytes(), tables);
  EXPECT_EQ(on_device.resident_bytes() - on_host.resident_bytes(), tables);
  EXPECT_EQ(on_device.step_bytes(), on_host.step_bytes());
  EXPECT_NE(choice_text(on_host, 3).find("host memory"), std::string::npos);
  EXPECT_NE(memory_table(on_host, 3).find("in host memory, not counted"), std::string::npos);
  EXPECT_EQ(choice_text(on_device, 3).find("host memory"), std::string::npos);

  EXPECT_EQ(chosen(0), (MemoryChoice{0, 1, kDevice}));
  EXPECT_EQ(chosen(peak({0, 1, kDevice})), (MemoryChoice{0, 1, kDevice}));
  EXPECT_EQ(chosen(peak({0, 1, kDevice}) - 1), (MemoryChoice{0, 1, kHost})) << "before any layer is recomputed";
  EXPECT_EQ(chosen(peak({0, 1, kHost})), (MemoryChoice{0, 1, kHost}));
  ASSERT_LT(peak({1, 1, kHost}), peak({0, 1, kHost}));
  EXPECT_EQ(chosen(peak({1, 1, kHost})), (MemoryChoice{1, 1, kHost})) << "then the fewest layers";
  ASSERT_LT(peak({1, 1, kDevice}), peak({0, 1, kHost}));
  EXPECT_EQ(chosen(peak({1, 1, kDevice})), (MemoryChoice{1, 1, kDevice})) << "where the layer alone is enough";

  // What is said is done.
  settings.train.tables = TableHome::kDevice;
  EXPECT_EQ(plan_memory(made()->shape, encoder, peak({0, 1, kDevice}) - 1).choice.tables, kDevice);
  settings.train.tables = TableHome::kHost;
  EXPECT_EQ(plan_memory(made()->shape, encoder, 0).choice, (MemoryChoice{0, 1, kHost}));

  settings.train.tables = TableHome::kAuto;
  // On a CPU it is all the same memory.
  auto on_cpu = plan_of(settings, dataset);
  const auto cpu_plan = predict_memory(on_cpu->shape, encoder, {0, 1, kHost});
  EXPECT_EQ(cpu_plan.host_bytes(), 0);
  EXPECT_EQ(cpu_plan.peak_bytes(), predict_memory(on_cpu->shape, encoder, {0, 1, kDevice}).peak_bytes());
  EXPECT_EQ(plan_memory(on_cpu->shape, encoder, cpu_plan.peak_bytes() - 1).choice.tables, kDevice);
}

TEST_F(MemoryPlanTest, MinimumIsNamed) {
  const auto settings = config("minilm");
  const Dataset dataset(settings.data.path);
  const auto planned = plan_of(settings, dataset);
  const auto message = [&](int64_t budget) -> std::string {
    try {
      plan_memory(planned->shape, *planned->encoder, budget);
    } catch (const UserError& error) {
      return error.what();
    }
    return {};
  };
  const std::string refusal = message(1'000'000);
  const auto at = refusal.find("at least ");
  ASSERT_NE(at, std::string::npos) << refusal;
  EXPECT_EQ(refusal.find('\n'), std::string::npos);
  const double gb = std::stod(refusal.substr(at + 9));
  EXPECT_EQ(message(static_cast<int64_t>(gb * 1e9)), "") << "what it names works";
  EXPECT_NE(message(static_cast<int64_t>((gb - 0.02) * 1e9)), "") << "and little less does not";
}

TEST_F(MemoryPlanTest, SettingsFixTheChoice) {
  auto settings = config("minilm");
  const Dataset dataset(settings.data.path);
  settings.train.chunks = 3;
  settings.train.recompute_layers = 1;
  const auto planned = plan_of(settings, dataset);
  EXPECT_EQ(plan_memory(planned->shape, *planned->encoder, 0).choice, (MemoryChoice{1, 3}));
  EXPECT_THROW(plan_memory(planned->shape, *planned->encoder, 1'000'000), UserError);
  settings.train.recompute_layers = 4;
  const auto deeper = plan_of(settings, dataset);
  EXPECT_THROW(plan_memory(deeper->shape, *deeper->encoder, 0), UserError);
  settings.train.recompute_layers = 0;
  settings.train.chunks = 2 * settings.train.batch_size + 1;
  const auto finer = plan_of(settings, dataset);
  EXPECT_THROW(plan_memory(finer->shape, *finer->encoder, 0), UserError);
}

TEST_F(MemoryPlanTest, RanksShareLabelSideAndBatch) {
  const auto settings = config("tiny");
  const Dataset dataset(settings.data.path);
  auto one = plan_of(settings, dataset, 1, /*cpu=*/false), eight = plan_of(settings, dataset, 8, /*cpu=*/false);
  for (auto* planned : {one.get(), eight.get()}) {
    planned->shape.data.labels = 1'305'265;
    planned->shape.data.queries = 2'248'619;
  }
  const auto part = [](const MemoryPlan& plan, const std::string& name) {
    for (const auto& p : plan.resident)
      if (p.name == name) return static_cast<double>(p.bytes);
    ADD_FAILURE() << name;
    return 0.0;
  };
  const auto alone = plan_memory(one->shape, *one->encoder, 0), shared = plan_memory(eight->shape, *eight->encoder, 0);
  for (const char* name : {"centroids", "query bank (fp16)"})
    EXPECT_NEAR(part(alone, name) / part(shared, name), 8, 0.01) << name;
  EXPECT_EQ(part(alone, "trained parameters"), part(shared, "trained parameters"));
  EXPECT_EQ(part(alone, "centroids"), 1'305'265.0 * 128 * 4);
  EXPECT_LT(static_cast<double>(shared.step_bytes()), 0.3 * static_cast<double>(alone.step_bytes()));
}

// Recorded passes keep their memory between steps; on a CPU, or with gradient caching, there are none.
TEST_F(MemoryPlanTest, RecordedPassesAreResident) {
  auto settings = config("tiny");
  const Dataset dataset(settings.data.path);
  const auto plan_with = [&](int64_t positions, int64_t chunks, bool cpu) {
    settings.train.graph_positions = positions;
    const auto planned = plan_of(settings, dataset, 1, cpu);
    return predict_memory(planned->shape, *planned->encoder, {0, chunks, TablePlacement::kDevice});
  };
  const auto part = [](const std::vector<MemoryPart>& parts, const std::string& name) {
    int64_t bytes = 0;
    for (const auto& one : parts)
      if (one.name.starts_with(name)) bytes += one.bytes;
    return bytes;
  };
  const auto plain = plan_with(0, 1, false), recorded = plan_with(64, 1, false);
  EXPECT_EQ(part(plain.resident, "recorded passes"), 0);
  EXPECT_GE(part(recorded.resident, "recorded passes"), part(plain.step, "activations"));
  EXPECT_EQ(part(recorded.step, "activations"), 0);
  EXPECT_GT(recorded.tensor_bytes(), plain.tensor_bytes());
  EXPECT_EQ(part(plan_with(64, 2, false).resident, "recorded passes"), 0);
  EXPECT_EQ(plan_with(64, 1, true).tensor_bytes(), plan_with(0, 1, true).tensor_bytes());
}

// While steps go on behind which negatives are mined, the index and lists in the making are there too.
TEST_F(MemoryPlanTest, AMiningBehindTheTrainingIsResident) {
  auto settings = config("tiny");
  const Dataset dataset(settings.data.path);
  settings.mining.columns = 100;
  settings.run.checkpoint_async = false;  // a snapshot of it would be there, too
  const auto plan_with = [&](int64_t overlap) {
    settings.mining.overlap = overlap;
    const auto planned = plan_of(settings, dataset, 4);
    planned->shape.data.labels = 1'305'265;
    planned->shape.data.queries = 2'248'619;
    return plan_memory(planned->shape, *planned->encoder, 0);
  };
  const auto waits = plan_with(0), overlaps = plan_with(50);
  const int64_t index = Miner::planned_bytes(settings, 1'305'265 / 4, 128, /*cpu=*/true);
  const int64_t lists = MinedLists::bytes(settings.mining, 2'248'619 / 4);
  EXPECT_NEAR(static_cast<double>(overlaps.resident_bytes() - waits.resident_bytes()),
              static_cast<double>(index + lists), 1e6);
  EXPECT_EQ(overlaps.step_bytes(), waits.step_bytes());
  const auto pass = [](const MemoryPlan& plan) {
    for (const auto& part : plan.passes)
      if (part.name.starts_with("mining")) return part.bytes;
    return int64_t{-1};
  };
  EXPECT_NEAR(static_cast<double>(pass(waits) - pass(overlaps)), static_cast<double>(index), 1e6) << "counted once";
}

TEST(PlanData, NeedsItsKeysAndTheyMustAgree) {
  PlanConfig plan;
  const auto message = [&]() -> std::string {
    try {
      data_shape(plan);
    } catch (const UserError& error) {
      return error.what();
    }
    return {};
  };
  EXPECT_NE(message().find("plan.queries"), std::string::npos);
  plan.queries = 1000;
  plan.labels = 200;
  plan.mean_tokens = 16;
  EXPECT_NE(message().find("plan.longest_tokens"), std::string::npos);
  plan.longest_tokens = 12;
  EXPECT_NE(message().find("cannot be shorter"), std::string::npos);
  plan.longest_tokens = 32;
  plan.images_per_row = 0.9;
  EXPECT_NE(message().find("plan.image_slots"), std::string::npos);
  plan.image_slots = 1;
  EXPECT_NE(message().find("plan.image_width"), std::string::npos);
  plan.image_width = 1152;
  plan.prompt_tokens = 6;
  EXPECT_EQ(message(), "");
  const auto data = data_shape(plan);
  EXPECT_NEAR(data.query.mean, 16 + 6 + 0.9, 1e-9);
  EXPECT_EQ(data.query.longest, 32 + 6 + 1);
  EXPECT_NEAR(data.query.mean_images, 0.9, 1e-9);
}

// Lengths 3 1 4 1 5 9 2 6 with pictures in front of some.
PackedBatch batch_to_cut() {
  const std::vector<int64_t> lengths = {3, 1, 4, 1, 5, 9, 2, 6};
  std::vector<int32_t> ends = {0};
  std::vector<int64_t> image_places, text_places, keys;
  for (size_t i = 0; i < lengths.size(); ++i) {
    const int64_t first = ends.back();
    for (int64_t p = first; p < first + lengths[i]; ++p)
      (i % 3 == 2 && p == first ? image_places : text_places).push_back(p);
    ends.push_back(static_cast<int32_t>(first + lengths[i]));
    keys.push_back(100 + static_cast<int64_t>(i));
  }
  PackedBatch batch;
  batch.tokens = at::arange(ends.back(), at::kLong) + 1000;
  batch.position_ids = at::arange(ends.back(), at::kLong);
  batch.cu_seqlens = at::tensor(ends, at::kInt);
  batch.sequence_keys = at::tensor(keys, at::kLong);
  batch.text_positions = at::tensor(text_places, at::kLong);
  batch.image_positions = at::tensor(image_places, at::kLong);
  batch.image_embeddings = at::arange(static_cast<int64_t>(image_places.size()), at::kFloat).unsqueeze(1);
  batch.max_seqlen = 9;
  return batch;
}

TEST(SplitBatch, CutsBetweenSequencesAndLosesNothing) {
  const auto batch = batch_to_cut();
  for (int64_t chunks = 1; chunks <= 12; ++chunks) {
    const auto parts = split_batch(batch, chunks);
    EXPECT_LE(static_cast<int64_t>(parts.size()), chunks);
    std::vector<at::Tensor> tokens, keys, images, text, pictures;
    int64_t begin = 0, longest = 0;
    for (const auto& part : parts) {
      ASSERT_GT(part.n_sequences(), 0);
      EXPECT_EQ(part.cu_seqlens[0].item<int>(), 0);
      EXPECT_EQ(part.cu_seqlens[part.n_sequences()].item<int64_t>(), part.n_positions());
      EXPECT_EQ(part.max_seqlen, part.cu_seqlens.diff().max().item<int64_t>());
      tokens.push_back(part.tokens);
      keys.push_back(part.sequence_keys);
      text.push_back(part.text_positions + begin);
      if (part.image_embeddings.defined()) {
        images.push_back(part.image_embeddings);
        pictures.push_back(part.image_positions + begin);
      }
      begin += part.n_positions();
      longest = std::max(longest, part.n_positions());
    }
    EXPECT_TRUE(at::cat(tokens).equal(batch.tokens));
    EXPECT_TRUE(at::cat(keys).equal(batch.sequence_keys));
    EXPECT_TRUE(at::cat(text).equal(batch.text_positions));
    EXPECT_TRUE(at::cat(images).equal(batch.image_embeddings));
    EXPECT_TRUE(at::cat(pictures).equal(batch.image_positions));
    EXPECT_LE(longest, 31 / chunks + 9 + 1) << chunks << " chunks: the fullest has its share and a sequence";
  }
  EXPECT_EQ(split_batch(batch, 3).size(), 3U);
}

}  // namespace
}  // namespace vixen

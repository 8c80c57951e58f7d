// `vixen plan` from a config.json alone: figures that are known otherwise, what divides by ranks, and what it refuses.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/file.hpp"
#include "commands/commands.hpp"
#include "fixtures/fault.hpp"
#include "fixtures/toy_dataset.hpp"

namespace vixen {
namespace {

constexpr const char* kQwenHalfBillion = R"({"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"],
"hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2,
"intermediate_size": 4864, "vocab_size": 151936, "max_position_embeddings": 32768, "hidden_act": "silu",
"rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "tie_word_embeddings": true, "torch_dtype": "bfloat16"})";
constexpr const char* kDistilBert = R"({"model_type": "distilbert", "dim": 768, "n_layers": 6, "n_heads": 12,
"hidden_dim": 3072, "vocab_size": 30522, "max_position_embeddings": 512, "activation": "gelu", "dropout": 0.1,
"attention_dropout": 0.1})";

class PlanCommandTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    int argc = 0;
    char** argv = nullptr;
    session_ = new MpiSession(&argc, &argv);
    session_->watch_ranks(60, 600);
  }
  static void TearDownTestSuite() { delete session_; }

  // LF-AmazonTitles-131K with pictures, as the paper trains it.
  Config config(const char* config_json) const {
    write_text_atomically(dir_.path() / "config.json", config_json);
    Config config;
    config.command = "plan";
    config.model.path = (dir_.path() / "config.json").string();
    config.model.compute = Compute::kBfloat16;
    config.train.batch_size = 2048;
    config.train.epochs = 30;
    config.plan.queries = 294'805;
    config.plan.labels = 131'073;
    config.plan.mean_tokens = 15;
    config.plan.longest_tokens = 32;
    config.plan.images_per_row = 0.9;
    config.plan.image_slots = 1;
    config.plan.image_width = 1152;
    config.out = (dir_.path() / "plan.json").string();
    return config;
  }
  static Config with_lora(Config config) {
    config.lora.rank = 256;
    return config;
  }

  static nlohmann::json plan(const Config& config) {
    EXPECT_EQ(plan_command(config, *session_), 0);
    return nlohmann::json::parse(read_text(config.out));
  }
  static std::string refusal(const Config& config) {
    return test::fault_of([&] { plan_command(config, *session_); });
  }

  test::TempDir dir_;
  static inline MpiSession* session_ = nullptr;
};

// plan.rates: of the file, not of the data sheet; what it does not say is called an assumption.
TEST_F(PlanCommandTest, RatesThatWereMeasuredArePlannedWith) {
  auto settings = with_lora(config(kQwenHalfBillion));
  const double sheet = plan(settings)["device"]["flops_per_s"].get<double>();
  settings.plan.rates = (dir_.path() / "rates.json").string();
  nlohmann::json rates = {{"name", "a card"},           {"memory_bytes", 50e9},       {"fp32_flops_per_s", 40e12},
                          {"bf16_flops_per_s", 600e12}, {"memory_bytes_per_s", 2e12}, {"products_share_bf16", 0.8}};
  const auto write = [&] { write_text_atomically(settings.plan.rates, nlohmann::json{{"rates", rates}}.dump()); };
  write();
  const auto measured = plan(settings);
  EXPECT_NE(sheet, 480e12);
  EXPECT_NEAR(measured["device"]["flops_per_s"].get<double>(), 480e12, 1e6);
  EXPECT_EQ(measured["device"]["name"], "a card");
  EXPECT_EQ(measured["memory"]["budget_bytes"], 50'000'000'000);
  rates["all_reduce_bytes_per_s"] = 123e9;
  rates.erase("products_share_bf16");
  write();
  const auto assumed = plan(settings)["device"];
  EXPECT_NEAR(assumed["flops_per_s"].get<double>(), 420e12, 1e6);
  EXPECT_NEAR(assumed["all_reduce_bytes_per_s"].get<double>(), 123e9, 1);
  rates["memory_bytes_per_s"] = "fast";
  write();
  EXPECT_EQ(refusal(settings), "plan.rates = " + settings.plan.rates +
                                   ": rates.memory_bytes_per_s is \"fast\", expected a number above 0, as in what "
                                   "`vixen bench --out FILE` writes");
  write_text_atomically(settings.plan.rates, "{}");
  EXPECT_EQ(refusal(settings), "plan.rates = " + settings.plan.rates +
                                   ": found no \"rates\" in it, expected what `vixen bench --out FILE` writes");
}

TEST_F(PlanCommandTest, CountsAQwenWithAdapters) {
  const auto report = plan(with_lora(config(kQwenHalfBillion)));
  // 494.0 M parameters, in bf16 (the few norms in float32).
  EXPECT_NEAR(report["memory"]["resident"]["frozen base weights"].get<double>(), 494.03e6 * 2, 0.3e6);
  // r = 256 on all seven projections: 0.28 GB in bf16; the image projection and the prototype network beside it.
  const double adapters = 24.0 * 256 * ((896 + 896) + 2 * (896 + 128) + (896 + 896) + 3 * (896 + 4864));
  const double others = 1152 * 896 + 4 * 896 * 896 + 2 * 896 * 1024;
  EXPECT_NEAR(report["trained_elements"].get<double>(), adapters + others, 0.003 * adapters);
  // 4096 sequences of 26 positions: 243 TFLOP.
  EXPECT_NEAR(report["time"]["flops_per_step"].get<double>(), 243e12, 25e12);
  EXPECT_GT(report["time"]["hours"].get<double>(), 0.2);
  EXPECT_LT(report["time"]["hours"].get<double>(), 5);
  EXPECT_LE(report["memory"]["peak_bytes"].get<double>(), 80e9);
  EXPECT_EQ(report["memory"]["budget_bytes"].get<int64_t>(), int64_t{80'000'000'000});
  EXPECT_EQ(report["time"]["steps_per_epoch"].get<int64_t>(), 144);
}

TEST_F(PlanCommandTest, RanksShareTheLabelSideAndTheTime) {
  auto settings = with_lora(config(kQwenHalfBillion));
  const auto one = plan(settings);
  settings.plan.world_size = 8;
  const auto eight = plan(settings);
  const auto resident = [](const nlohmann::json& report, const char* part) {
    return report["memory"]["resident"][part].get<double>();
  };
  for (const char* part : {"centroids", "query bank (fp16)", "free vectors, gradients, moments"})
    EXPECT_NEAR(resident(one, part) / resident(eight, part), 8, 0.1) << part;
  EXPECT_EQ(resident(one, "gradients"), resident(eight, "gradients"));
  const double speedup = one["time"]["step_seconds"].get<double>() / eight["time"]["step_seconds"].get<double>();
  EXPECT_GT(speedup, 5);
  EXPECT_LT(speedup, 8.5);
  EXPECT_EQ(one["time"]["step"]["all-reduce of gradients"].get<double>(), 0);
  EXPECT_GT(eight["time"]["step"]["all-reduce of gradients"].get<double>(), 0);
}

TEST_F(PlanCommandTest, SmallerBudgetsCostTime) {
  auto settings = with_lora(config(kQwenHalfBillion));
  settings.plan.memory_gb = 300;
  const auto roomy = plan(settings);
  EXPECT_EQ(roomy["choice"]["chunks"], 1);
  EXPECT_EQ(roomy["choice"]["recompute_layers"], 0);
  settings.plan.memory_gb = 16;
  const auto tight = plan(settings);
  EXPECT_TRUE(tight["choice"]["chunks"] > 1 || tight["choice"]["recompute_layers"] > 0);
  EXPECT_LE(tight["memory"]["peak_bytes"].get<double>(), 16e9);
  EXPECT_GT(tight["time"]["step_seconds"].get<double>(), roomy["time"]["step_seconds"].get<double>());
  settings.plan.memory_gb = 2;
  EXPECT_NE(refusal(settings).find("at least"), std::string::npos);
}

TEST_F(PlanCommandTest, TablesMoveToHostMemory) {
  auto settings = with_lora(config(kQwenHalfBillion));
  settings.plan.memory_gb = 300;
  const auto roomy = plan(settings);
  EXPECT_EQ(roomy["choice"]["tables"], "device");
  EXPECT_FALSE(roomy["memory"]["host"].contains("centroids"));
  settings.train.tables = TableHome::kHost;
  const auto moved = plan(settings);
  EXPECT_EQ(moved["choice"]["tables"], "host");
  const int64_t tables = 131'073 * int64_t{896} * 4 + 294'805 * int64_t{896} * 2;
  EXPECT_EQ(moved["memory"]["host_bytes"].get<int64_t>() - roomy["memory"]["host_bytes"].get<int64_t>(), tables);
  EXPECT_EQ(moved["memory"]["host"]["centroids"].get<int64_t>(), 131'073 * int64_t{896} * 4);
  EXPECT_EQ(roomy["memory"]["peak_bytes"].get<int64_t>() - moved["memory"]["peak_bytes"].get<int64_t>(), tables);
  const double slower = moved["time"]["step_seconds"].get<double>() - roomy["time"]["step_seconds"].get<double>();
  EXPECT_GT(slower, 0);
  EXPECT_LT(slower, 0.01);
}

TEST_F(PlanCommandTest, LargeBatchesShardTheObjective) {
  auto settings = config(kDistilBert);
  settings.plan.memory_gb = 4000;
  EXPECT_EQ(plan(settings)["choice"]["objective"], "replicated");
  settings.train.batch_size = 65536;
  settings.plan.world_size = 8;
  const auto sharded = plan(settings);
  EXPECT_EQ(sharded["choice"]["objective"], "sharded");
  settings.train.objective = ObjectiveWay::kReplicated;
  const auto replicated = plan(settings);
  EXPECT_EQ(replicated["choice"]["objective"], "replicated");
  // S, F, S transposed and a masked copy, with two masks: 77 GB; and blocks that do not grow with the batch.
  EXPECT_NEAR(replicated["memory"]["step"]["objective (B x M matrices)"].get<double>(), 18.0 * 65536 * 65536, 1e9);
  EXPECT_LT(replicated["memory"]["step"]["objective (B x M matrices)"].get<double>() / 100,
            replicated["memory"]["peak_bytes"].get<double>() - sharded["memory"]["peak_bytes"].get<double>());
  EXPECT_LT(sharded["memory"]["peak_bytes"].get<double>(), 80e9);
  // Nine products of which a rank has an eighth, instead of six.
  const auto seconds = [](const nlohmann::json& report, const char* part) {
    return report["time"]["step"][part].get<double>();
  };
  const double product = 2.0 * 65536 * 65536 * 768 / 67e12;
  EXPECT_NEAR(seconds(replicated, "prototypes and objective") - seconds(sharded, "prototypes and objective"),
              (6 - 9.0 / 8) * product, 2 * product)
      << "besides passes over scores";
  EXPECT_EQ(seconds(replicated, "reduce-scatter of their gradients"), 0);
  EXPECT_EQ(seconds(sharded, "reduce-scatter of their gradients"), seconds(sharded, "all-gather of embeddings"));
}

TEST_F(PlanCommandTest, CountsAnEncoderThatIsTrainedWhole) {
  auto settings = config(kDistilBert);
  const auto report = plan(settings);
  // 66.4 M of DistilBERT, and ours.
  EXPECT_NEAR(report["trained_elements"].get<double>(), 66.36e6 + 1152 * 768 + 4 * 768 * 768 + 2 * 768 * 1024, 0.1e6);
  EXPECT_FALSE(report["memory"]["resident"].value("frozen base weights", 0) > 0);
  // Encoders have no prompt: shorter sequences than a decoder's of the same texts.
  settings.prompt.use = UseTemplate::kYes;
  EXPECT_GT(plan(settings)["time"]["flops_per_step"].get<double>(), report["time"]["flops_per_step"].get<double>());
}

TEST_F(PlanCommandTest, TakesTheShapeOfADataSet) {
  auto settings = with_lora(config(kQwenHalfBillion));
  settings.data.path = (dir_.path() / "data.h5").string();
  test::write_toy_dataset(settings.data.path, {.n_train = 300, .n_labels = 60, .image_width = 64});
  settings.plan.queries = settings.plan.labels = 0;
  settings.train.batch_size = 100;
  const auto report = plan(settings);
  EXPECT_EQ(report["time"]["steps_per_epoch"], 3);
  EXPECT_EQ(report["memory"]["resident"]["query bank (fp16)"], 300 * 896 * 2);
}

// A label side that has no ceiling: 100 million labels, 200 million queries with 20 of them each, on up to 1,024 GPUs.
TEST_F(PlanCommandTest, AHundredMillionLabelsAreDividedByTheRanks) {
  auto settings = with_lora(config(kQwenHalfBillion));
  settings.plan.queries = 200'000'000;
  settings.plan.labels = 100'000'000;
  settings.plan.labels_per_query = 20;
  settings.train.batch_size = 16384;
  settings.prototype.free_vectors = 1 << 20;
  std::map<int64_t, nlohmann::json> plans;
  for (const int64_t ranks : {256, 512, 1024}) {
    settings.plan.world_size = ranks;
    plans[ranks] = plan(settings);
  }
  const auto parts = [](const nlohmann::json& report) {
    std::map<std::string, double> bytes;
    for (const char* group : {"resident", "step", "passes", "host"})
      for (const auto& [name, value] : report["memory"][group].items())
        bytes[std::string(group) + ": " + name] += value.get<double>();
    return bytes;
  };
  for (const auto& [name, bytes] : parts(plans[256])) {
    const double at_1024 = parts(plans[1024])[name];
    // What does not shrink as ranks are added stays below 2 GB; frozen weights, adapters and what
    // is copied of them are the model, not the data.
    const bool is_model = name.find("parameters and moments") != name.npos;
    if (at_1024 > 0.3 * bytes && !is_model) {
      EXPECT_LT(at_1024, 2e9) << name;
    }
  }
  const auto label_side = [&](int64_t ranks) {
    const auto& memory = plans[ranks]["memory"];
    double bytes = 0;
    for (const char* table : {"centroids", "query bank (fp16)", "free vectors, gradients, moments"})
      for (const char* group : {"resident", "host"})
        if (memory[group].contains(table)) bytes += memory[group][table].get<double>();
    return bytes + memory["host"]["training queries of own labels"].get<double>();
  };
  EXPECT_NEAR(label_side(256) / label_side(1024), 4, 0.04) << "but for whole blocks of 512 rows";
  EXPECT_NEAR(label_side(512) / label_side(1024), 2, 0.02);
  // Once a node, whatever the number of nodes: some bytes a query and a label.
  EXPECT_EQ(plans[256]["memory"]["node_bytes"], plans[1024]["memory"]["node_bytes"]);
  EXPECT_LT(plans[1024]["memory"]["node_bytes"].get<double>(), 12.0 * 200e6 + 30.0 * 100e6);
  EXPECT_LE(plans[1024]["memory"]["peak_bytes"].get<double>(), 80e9);
  EXPECT_EQ(plans[1024]["growth"]["factor"], 2);
  EXPECT_NE(plans[1024]["growth"]["reason"].get<std::string>().find("2-means"), std::string::npos);
}

TEST_F(PlanCommandTest, RefusesInOneLine) {
  auto settings = with_lora(config(kQwenHalfBillion));
  settings.plan.mean_tokens = 0;
  EXPECT_NE(refusal(settings).find("plan.mean_tokens"), std::string::npos);
  settings = with_lora(config(kQwenHalfBillion));
  settings.plan.world_size = 4096;
  EXPECT_NE(refusal(settings).find("train.batch_size"), std::string::npos);
  settings = with_lora(config(R"({"model_type": "mamba"})"));
  EXPECT_NE(refusal(settings).find("mamba"), std::string::npos);
  settings.model.path = (dir_.path() / "nothing").string();
  EXPECT_NE(refusal(settings).find("nothing"), std::string::npos);
}

// Sixteen nodes of eight: volumes that are known otherwise, and times that agree with one another.
TEST_F(PlanCommandTest, NodesHaveTheTimelineOfAStep) {
  auto settings = with_lora(config(kQwenHalfBillion));
  settings.train.batch_size = 128 * 64;
  settings.plan.nodes = 16;
  const auto report = plan(settings);
  EXPECT_EQ(report["world_size"], 128);
  const auto& nodes = report["nodes"];
  const auto total = [&](const std::string& name) {
    double bytes = 0;
    for (const auto& sent : nodes["sent"])
      if (sent["name"] == name) bytes += sent["total_bytes"].get<double>();
    return bytes;
  };
  const double elements = report["trained_elements"].get<double>();
  EXPECT_NEAR(total("gradients") / (2 * 127 * 4 * elements), 1, 1e-4);
  EXPECT_EQ(total("embeddings of the batch"), 127.0 * 3 * 128 * 64 * 896 * 4);
  const double step = nodes["step_seconds"].get<double>();
  EXPECT_NEAR(report["time"]["step_seconds"].get<double>(), step, 1e-9 * step);
  double busy = 0, waited = 0;
  for (const auto& event : nodes["timeline"]) {
    if (event["computes"].get<bool>()) busy += event["busy_seconds"].get<double>();
    EXPECT_LE(event["ends"].get<double>(), step * (1 + 1e-9)) << event;
    if (!event["computes"].get<bool>()) waited += event["waited_seconds"].get<double>();
  }
  EXPECT_NEAR(busy + waited, step, 1e-9 * step);
  EXPECT_NEAR(nodes["waited_seconds"].get<double>(), waited, 1e-12);
  EXPECT_EQ(nodes["binds"], "compute");
}

TEST_F(PlanCommandTest, WeakScalingGoesToAThousandGpus) {
  auto settings = with_lora(config(kQwenHalfBillion));
  settings.train.batch_size = 16 * 64;
  settings.plan.nodes = 2;
  const auto fast = plan(settings)["nodes"]["weak_scaling"];
  settings.plan.fabric = Fabric::kPcieEthernet;
  const auto slow = plan(settings)["nodes"]["weak_scaling"];
  ASSERT_EQ(fast.size(), 11U);
  EXPECT_EQ(fast[0]["efficiency"], 1.0);
  EXPECT_EQ(fast[10]["ranks"], 1024);
  EXPECT_EQ(fast[10]["nodes"], 128);
  for (size_t i = 1; i < fast.size(); ++i) {
    EXPECT_EQ(fast[i]["batch_size"], 64 * (1 << i));
    // The label side is divided, so that a second GPU may do a little more than twice as much.
    EXPECT_LT(fast[i]["efficiency"].get<double>(), 1.02) << i;
    EXPECT_LT(slow[i]["efficiency"].get<double>(), fast[i]["efficiency"].get<double>()) << i;
  }
  EXPECT_EQ(slow[0]["step_seconds"], fast[0]["step_seconds"]) << "one GPU has no links";
  EXPECT_EQ(slow[10]["binds"], "gradients (between nodes)");
}

// A hundred million labels: free vectors and centroids of all of them on few GPUs fit nowhere.
TEST_F(PlanCommandTest, AHundredMillionLabelsNeedManyGpus) {
  auto settings = with_lora(config(kQwenHalfBillion));
  settings.train.batch_size = 128 * 64;
  settings.plan.nodes = 16;
  settings.plan.labels = 100'000'000;
  settings.plan.queries = 10'000'000;
  const auto scaling = plan(settings)["nodes"]["weak_scaling"];
  EXPECT_FALSE(scaling[0]["fits"].get<bool>());
  EXPECT_EQ(scaling[0]["step_seconds"], 0);
  EXPECT_TRUE(scaling[7]["fits"].get<bool>()) << "128 GPUs";
  double first = 0;
  for (const auto& point : scaling)
    if (first == 0 && point["fits"].get<bool>()) first = point["efficiency"].get<double>();
  EXPECT_EQ(first, 1) << "of the fewest that fit";
}

TEST_F(PlanCommandTest, NodesThatContradictTheWorldSizeAreRefused) {
  auto settings = with_lora(config(kQwenHalfBillion));
  settings.plan.nodes = 2;
  settings.plan.world_size = 8;
  EXPECT_EQ(
      refusal(settings),
      "plan.world_size is 8, but 2 nodes (plan.nodes) of 8 ranks (plan.node_ranks) have 16: expected that, or none");
  settings.plan.world_size = 16;
  EXPECT_EQ(plan(settings)["world_size"], 16);
  settings.plan.world_size = 1;
  settings.train.batch_size = 15;
  EXPECT_EQ(refusal(settings), "train.batch_size is 15, but plan.nodes make 16: every rank needs a row");
}

}  // namespace
}  // namespace vixen

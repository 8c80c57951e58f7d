// Trainers on a toy data set, on the pretend device and on the CPU; numerics of both by the reference kernels.
#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "comm/one_rank.hpp"
#include "data/dataset.hpp"
#include "eval/evaluator.hpp"
#include "fixtures/tiny_decoder.hpp"
#include "fixtures/toy_dataset.hpp"
#include "fixtures/toy_model.hpp"
#include "pretend/pretend_device.hpp"
#include "pretend/reference_kernels.hpp"
#include "train/trainer.hpp"

namespace vixen::pretend {

class TrainingFixture : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    device();
    dir_ = new test::TempDir;
    const auto folder = dir_->path();
    const auto sha = test::write_toy_model(folder / "model");
    test::write_toy_dataset(folder / "data.h5", {.n_train = 240,
                                                 .n_test = 40,
                                                 .n_labels = 150,
                                                 .vocabulary = 120,
                                                 .max_length = 12,
                                                 .image_width = 24,
                                                 .tokenizer_sha256 = sha});
    test::write_tiny_decoder(folder / "decoder", {.vocabulary = 120});
  }
  static void TearDownTestSuite() { delete dir_; }

  void SetUp() override {
    use_reference_kernels();
    take_faults();
  }
  void TearDown() override { EXPECT_EQ(text_of(take_faults()), ""); }

  static Config bert(const std::string& run = {}) {
    Config config;
    config.data.path = (dir_->path() / "data.h5").string();
    config.model.path = (dir_->path() / "model").string();
    if (!run.empty()) config.run.dir = (dir_->path() / run).string();
    config.train.batch_size = 40;  // 6 steps an epoch
    config.train.epochs = 3;
    config.train.warmup_steps = 3;
    config.train.clip_norm = 1;
    config.prototype.free_vectors = 32;
    config.prototype.heads = 4;
    config.prototype.feed_forward = 64;
    config.cluster.start_epoch = 0;
    config.cluster.update_epochs = 1;
    return config;
  }

  // A decoder with grouped queries and adapters; prompts, and pictures behind the text.
  static Config decoder(const std::string& run = {}) {
    auto settings = bert(run);
    settings.model.path = (dir_->path() / "decoder").string();
    settings.lora.rank = 6;
    settings.lora.alpha = 12;
    settings.lora.modules = "q,v,o,gate,up,down";
    settings.lora.dropout = 0.1;
    return settings;
  }

  static std::unique_ptr<Trainer> make(const Config& config, const Dataset& dataset, at::Device on) {
    const auto comm = std::make_shared<OneRank>(on);
    return std::make_unique<Trainer>(config, dataset, label_weights(config, dataset, *comm), comm);
  }

  // Steps from where the run is, at most to the end of its epoch: their losses.
  static std::vector<double> losses_of(Trainer& trainer, int64_t steps) {
    std::vector<double> losses;
    trainer.run_steps(steps, [&](const StepResult& result) { losses.push_back(result.loss.item<double>()); });
    return losses;
  }

  static inline test::TempDir* dir_ = nullptr;
};

}  // namespace vixen::pretend

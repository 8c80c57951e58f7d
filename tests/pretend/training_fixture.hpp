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
#include "fixtures/toy_run.hpp"
#include "pretend/pretend_device.hpp"
#include "pretend/reference_kernels.hpp"
#include "train/trainer.hpp"

namespace vixen::pretend {

using test::losses_of;

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
    auto config = test::toy_run(dir_->path(), run);
    config.train.batch_size = 40;  // 6 steps an epoch
    config.train.clip_norm = 1;
    config.prototype.free_vectors = 32;
    return config;
  }

  // A decoder with grouped queries and adapters; prompts, and pictures behind the text.
  static Config decoder(const std::string& run = {}) { return test::with_toy_adapters(bert(run), dir_->path()); }

  static std::unique_ptr<Trainer> make(const Config& config, const Dataset& dataset, at::Device on) {
    const auto comm = std::make_shared<OneRank>(on);
    return std::make_unique<Trainer>(config, dataset, label_weights(config, dataset, *comm), comm);
  }

  static inline test::TempDir* dir_ = nullptr;
};

}  // namespace vixen::pretend

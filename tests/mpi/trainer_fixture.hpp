// A trainer on a toy data set, made by rank 0 for all ranks, and the same on one rank alone.
#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "comm/on_root.hpp"
#include "data/dataset.hpp"
#include "eval/evaluator.hpp"
#include "fixtures/single_rank.hpp"
#include "fixtures/tiny_decoder.hpp"
#include "fixtures/toy_dataset.hpp"
#include "fixtures/toy_model.hpp"
#include "fixtures/toy_run.hpp"
#include "kernels/pooling.hpp"
#include "model/encode_pass.hpp"
#include "mpi/mpi_main.hpp"
#include "retrieval/retriever.hpp"
#include "train/trainer.hpp"

namespace vixen::test {

inline double relative_gap(const at::Tensor& a, const at::Tensor& b) {
  if (b.numel() == 0) return 0;  // a rank may own no rows
  return (a - b).abs().max().item<double>() / b.abs().max().item<double>();
}

// Files that all ranks read: written by rank 0 into one folder, removed with the last test.
class TrainerFixture : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    dir_ = new TempDir;
    folder_ = world().broadcast_host(dir_->path().string(), 0);
    on_root(world(), [] {
      const auto sha = write_toy_model(folder_ / "model");
      // More labels than one encoding block, so that every rank owns some.
      write_toy_dataset(folder_ / "data.h5", {.n_train = 1500,
                                              .n_test = 200,
                                              .n_labels = 1300,
                                              .vocabulary = 120,
                                              .max_length = 12,
                                              .image_width = 24,
                                              .tokenizer_sha256 = sha});
      write_tiny_decoder(folder_ / "decoder", {.vocabulary = 120});
      write_tiny_decoder(folder_ / "other-decoder", {.layers = 4, .vocabulary = 120});
    });
  }
  static void TearDownTestSuite() {
    world().barrier();
    delete dir_;
  }

  static Config config(const std::string& run = {}) {
    auto config = toy_run(folder_, run);
    config.train.batch_size = 150;
    config.prototype.free_vectors = 512;
    return config;
  }

  // A decoder with adapters, prompts and pictures behind the text.
  static Config lora_config(const std::string& run = {}) { return with_toy_adapters(config(run), folder_); }

  static std::unique_ptr<Trainer> make(const Config& config, const Dataset& dataset, bool alone) {
    std::shared_ptr<Communicator> comm(alone ? static_cast<Communicator*>(new SingleRank) : &world(),
                                       [alone](Communicator* c) {
                                         if (alone) delete c;
                                       });
    return std::make_unique<Trainer>(config, dataset, label_weights(config, dataset, *comm), comm);
  }

  // Takes `steps` steps, saves, and takes the run up again; losses: those of the steps.
  static std::unique_ptr<Trainer> interrupted(const Config& config, const Dataset& dataset, int64_t steps,
                                              std::vector<double>& losses) {
    auto first = make(config, dataset, false);
    first->prepare();
    losses = losses_of(*first, steps);
    first->save();
    auto second = make(config, dataset, false);
    EXPECT_TRUE(second->resume());
    EXPECT_EQ(second->global_step(), steps);
    return second;
  }

  static TopK top_labels(Trainer& trainer, const Dataset& dataset, Communicator& comm) {
    EncodePassOptions options;
    options.pack = trainer.parts().pack;
    const auto encode = [&](const SequenceTable& table) {
      const auto range = RowShards(table.size(), comm.world_size()).range(comm.rank());
      return encode_rows(*trainer.parts().encoder, table, dataset.images(), range, options);
    };
    const auto labels = trainer.parts().prototypes->representations(encode(dataset.labels()));
    return Retriever(labels, IndexConfig{}, comm).retrieve(normalize_rows(encode(dataset.test())).y, 100);
  }

  static inline TempDir* dir_ = nullptr;
  static inline std::filesystem::path folder_;
};

}  // namespace vixen::test

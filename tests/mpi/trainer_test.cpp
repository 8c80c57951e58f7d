// The trainer at W ranks against one rank: batches, losses, gradients, banks, top-k; and resuming, to the bit.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "base/check.hpp"
#include "commands/common.hpp"
#include "data/dataset.hpp"
#include "fixtures/fault.hpp"
#include "fixtures/orders.hpp"
#include "mpi/trainer_fixture.hpp"
#include "train/trainer.hpp"

namespace vixen {
namespace {

using test::losses_of;

using test::relative_gap;

class TrainerTest : public test::TrainerFixture {
 protected:
  // Trains W ranks and one rank alone side by side, `way` being the ranks' way to evaluate the objective.
  static void expect_as_one_rank(const Config& settings, ObjectiveWay way = ObjectiveWay::kReplicated) {
    const Dataset dataset(settings.data.path);
    auto ranks = settings;
    ranks.train.objective = way;
    auto together = make(ranks, dataset, false);
    auto alone = make(settings, dataset, true);
    ASSERT_EQ(together->parts().memory.objective, way);
    ASSERT_EQ(alone->parts().memory.objective, ObjectiveWay::kReplicated);
    together->prepare();
    alone->prepare();
    ASSERT_TRUE(together->parts().prototypes->cluster_of_label().tensor().equal(
        alone->parts().prototypes->cluster_of_label().tensor()))
        << "free vectors are assigned the same way";
    const auto range = together->parts().prototypes->centroids().local_range();
    EXPECT_LT(relative_gap(together->parts().prototypes->centroids().local(),
                           alone->parts().prototypes->centroids().local().narrow(0, range.begin, range.size())),
              1e-6);

    // Ten steps, the last ones in a clustered epoch.
    std::vector<double> losses, expected;
    while (losses.size() < 10) {
      for (const double loss : losses_of(*together, 10)) losses.push_back(loss);
      for (const double loss : losses_of(*alone, 10)) expected.push_back(loss);
    }
    for (size_t i = 0; i < losses.size(); ++i) EXPECT_NEAR(losses[i], expected[i], 1e-6 * expected[i]) << "step " << i;

    // Gradients of one more step, from the same parameters.
    together->parts().store.flat_values().copy_(alone->parts().store.flat_values());
    together->parts().store.refresh_compute();
    const auto order = test::shuffled_order(dataset.train().size(), 0, 1);
    const auto one = [&](Trainer& trainer) {
      return trainer.parts().step->accumulate(
          trainer.parts().step->prepare(trainer.parts().planner->plan(1, 3, order), dataset, trainer.parts().pack));
    };
    one(*together);
    one(*alone);
    EXPECT_LT(relative_gap(together->parts().store.flat_grads(), alone->parts().store.flat_grads()), 2e-5);

    // And of a batch with more label columns than queries, whose ranks hold unequal numbers of both.
    std::vector<int64_t> extra(37);
    for (size_t i = 0; i < extra.size(); ++i) extra[i] = static_cast<int64_t>(i) * 31 % dataset.labels().size();
    const auto wide = [&](Trainer& trainer) {
      const auto& parts = trainer.parts();
      const auto input = parts.step->prepare(parts.planner->plan(1, 4, order, extra), dataset, parts.pack);
      EXPECT_GT(input.plan.label_rows.size(), input.plan.query_rows.size() + extra.size() / 2);
      return parts.step->accumulate(input).loss.item<double>();
    };
    const double loss = wide(*together), expected_loss = wide(*alone);
    EXPECT_NEAR(loss, expected_loss, 1e-6 * expected_loss);
    EXPECT_LT(relative_gap(together->parts().store.flat_grads(), alone->parts().store.flat_grads()), 2e-5);
  }
};

TEST_F(TrainerTest, LossesAndGradientsAreThoseOfOneRank) {
  expect_as_one_rank(config());
}

// Rows of the objective dealt to ranks against all of them on one rank, W = 1 included: there its blocks differ.
TEST_F(TrainerTest, ShardedObjectiveTrainsAsTheReplicatedOneOfOneRank) {
  expect_as_one_rank(config(), ObjectiveWay::kSharded);
}

// Every objective, a whole batch with mined columns, and one so small that ranks have neither queries nor columns.
TEST_F(TrainerTest, ShardedObjectiveGivesTheSameStep) {
  for (const Method method : {Method::kPrime, Method::kNgame, Method::kTriplet}) {
    auto settings = config();
    settings.train.method = method;
    settings.train.batch_size = 499;  // 1500 queries: three are left for the last batch
    const Dataset dataset(settings.data.path);
    const auto order = test::shuffled_order(dataset.train().size(), 0, 1);
    std::vector<int64_t> extra(60);
    for (size_t i = 0; i < extra.size(); ++i) extra[i] = static_cast<int64_t>(i) * 31 % dataset.labels().size();
    const auto made = [&](ObjectiveWay way) {
      settings.train.objective = way;
      auto trainer = make(settings, dataset, false);
      trainer->prepare();
      return trainer;
    };
    const auto sharded = made(ObjectiveWay::kSharded), replicated = made(ObjectiveWay::kReplicated);
    for (const bool last : {false, true}) {
      const auto step = [&](Trainer& trainer) {
        const auto& parts = trainer.parts();
        const auto plan = last ? parts.planner->plan(1, 3, order) : parts.planner->plan(1, 1, order, extra);
        EXPECT_EQ(plan.query_rows.size(), last ? 3U : 499U);
        return parts.step->accumulate(parts.step->prepare(plan, dataset, parts.pack), /*logged=*/true);
      };
      const auto found = step(*sharded), expected = step(*replicated);
      const auto what = fmt::format("{}, {} batch", name_of(method), last ? "last" : "wide");
      const auto near = [&](const at::Tensor& a, const at::Tensor& b) {
        EXPECT_NEAR(a.item<double>(), b.item<double>(), 1e-6 * std::abs(b.item<double>())) << what;
      };
      near(found.loss, expected.loss);
      ASSERT_EQ(found.terms.size(), expected.terms.size());
      for (size_t i = 0; i < found.terms.size(); ++i) near(found.terms[i].value, expected.terms[i].value);
      near(found.queries->mean_cosine, expected.queries->mean_cosine);
      near(found.labels->effective_rank, expected.labels->effective_rank);
      auto& grads = replicated->parts().store.flat_grads();
      EXPECT_GT(grads.abs().max().item<double>(), 0) << what;
      EXPECT_LT(relative_gap(sharded->parts().store.flat_grads(), grads), 1e-5) << what;
      if (method == Method::kPrime && sharded->parts().step->free_vector_grad().numel() > 0) {
        const auto& free = replicated->parts().step->free_vector_grad();  // all 0 where no label of the batch is near
        EXPECT_LE((sharded->parts().step->free_vector_grad() - free).abs().max().item<double>(),
                  1e-5 * free.abs().max().item<double>() + 1e-12)
            << what;
      }
      EXPECT_TRUE(sharded->parts().bank->local().equal(replicated->parts().bank->local())) << what;
    }
  }
}

TEST_F(TrainerTest, LossesAndGradientsOfAdaptersAreThoseOfOneRank) {
  auto settings = lora_config();
  settings.train.image_dropout = 0.3;
  expect_as_one_rank(settings);
}

TEST_F(TrainerTest, AdaptersTrainAndTheBaseDoesNot) {
  const auto settings = lora_config();
  const Dataset dataset(settings.data.path);
  auto trainer = make(settings, dataset, false);
  auto& store = trainer->parts().store;
  const int frozen = store.find("layers.0.self_attn.o_proj.weight");
  ASSERT_GE(frozen, 0);
  ASSERT_FALSE(store.trained(frozen));
  const auto base = store.value(frozen).clone();
  trainer->prepare();
  const auto first = store.flat_values().clone();
  trainer->run_steps(4);
  EXPECT_TRUE(store.value(frozen).equal(base));
  for (int i = 0; i < store.count(); ++i) {
    if (!store.trained(i) || store.info(i).name.find("lora_B") == std::string::npos) continue;
    EXPECT_GT(store.value(i).abs().max().item<double>(), 0) << store.info(i).name << " began as zero";
  }
  EXPECT_FALSE(store.flat_values().equal(first));
}

// Dropout in the backbone, the adapters and the prototypes, and image dropout: the second pass must meet the same.
TEST_F(TrainerTest, ChunksAndRecomputationGiveTheSameGradients) {
  for (auto settings : {config(), lora_config()}) {
    settings.train.image_dropout = 0.2;
    const Dataset dataset(settings.data.path);
    // Not the first step: B of the adapters is 0 there, and half of the gradients with it.
    auto trained = make(settings, dataset, false);
    trained->prepare();
    trained->run_steps(3);
    const auto plan = trained->parts().planner->plan(1, 2, test::shuffled_order(dataset.train().size(), 0, 1));
    const auto gradients = [&](int64_t chunks, int64_t recompute, double* loss, int64_t* parts) {
      settings.train.chunks = chunks;
      settings.train.recompute_layers = recompute;
      auto trainer = make(settings, dataset, false);
      trainer->prepare();
      trainer->parts().store.flat_values().copy_(trained->parts().store.flat_values());
      trainer->parts().store.refresh_compute();
      trainer->parts().prototypes->free_vectors().local().copy_(trained->parts().prototypes->free_vectors().local());
      const auto input = trainer->parts().step->prepare(plan, dataset, trainer->parts().pack);
      *parts = static_cast<int64_t>(input.chunks.size());
      *loss = trainer->parts().step->accumulate(input).loss.item<double>();
      return std::make_pair(trainer->parts().store.flat_grads().clone(),
                            trainer->parts().step->free_vector_grad().clone());
    };
    double loss = 0, expected_loss = 0;
    int64_t parts = 0;
    const auto expected = gradients(1, 0, &expected_loss, &parts);
    ASSERT_EQ(parts, 1);
    for (const int64_t chunks : {1, 2, 5}) {
      for (const int64_t recompute : {0, 2}) {
        const auto found = gradients(chunks, recompute, &loss, &parts);
        EXPECT_EQ(parts, chunks);
        const auto distance = [](const at::Tensor& a, const at::Tensor& b) {
          return b.numel() == 0 ? 0.0 : (a - b).norm().item<double>() / b.norm().item<double>();
        };
        const double gap = distance(found.first, expected.first);
        if (test::world().rank() == 0)
          fmt::print("{}: {} chunks, {} layers again: relative gap {:.1e}\n",
                     settings.lora.rank > 0 ? "decoder" : "encoder", chunks, recompute, gap);
        if (chunks == 1) {
          EXPECT_TRUE(found.first.equal(expected.first)) << "recomputation changes no bit";
          EXPECT_EQ(loss, expected_loss);
        }
        EXPECT_LE(gap, 1e-6);
        EXPECT_LE(distance(found.second, expected.second), 1e-6);
        EXPECT_NEAR(loss, expected_loss, 1e-6 * expected_loss);
      }
    }
  }
}

// The host path of the tables, which on a CPU differs in nothing but the way.
TEST_F(TrainerTest, TablesInHostMemoryChangeNoBit) {
  auto settings = config(fmt::format("host-tables-{}", test::world().world_size()));
  const Dataset dataset(settings.data.path);
  auto expected = make(settings, dataset, false);
  expected->prepare();
  settings.train.tables = TableHome::kHost;
  auto trainer = make(settings, dataset, false);
  EXPECT_EQ(trainer->parts().memory.choice.tables, TablePlacement::kHost);
  trainer->prepare();
  EXPECT_TRUE(
      trainer->parts().prototypes->centroids().local().equal(expected->parts().prototypes->centroids().local()));
  std::vector<double> losses, expected_losses;
  while (losses.size() < 8) {
    for (const double loss : losses_of(*trainer, 8)) losses.push_back(loss);
    for (const double loss : losses_of(*expected, 8)) expected_losses.push_back(loss);
  }
  EXPECT_EQ(losses, expected_losses);
  trainer->save();
  // Where tables live may change when a run is taken up again.
  settings.train.tables = TableHome::kDevice;
  auto resumed = make(settings, dataset, false);
  ASSERT_TRUE(resumed->resume());
  for (auto* other : {trainer.get(), resumed.get()}) {
    EXPECT_TRUE(other->parts().bank->local().equal(expected->parts().bank->local()));
    EXPECT_TRUE(
        other->parts().prototypes->centroids().local().equal(expected->parts().prototypes->centroids().local()));
  }
}

TEST_F(TrainerTest, ResumingAdaptersChangesNoBit) {
  auto settings = lora_config(fmt::format("resume-lora-{}", test::world().world_size()));
  const Dataset dataset(settings.data.path);
  auto straight = make(settings, dataset, false);
  straight->prepare();
  const auto expected = losses_of(*straight, 6);

  std::vector<double> losses;
  auto second = interrupted(settings, dataset, 3, losses);
  for (const double loss : losses_of(*second, 3)) losses.push_back(loss);
  EXPECT_EQ(losses, expected);
  EXPECT_TRUE(second->parts().store.flat_values().equal(straight->parts().store.flat_values()));

  // Trained parameters only: the base is not in the checkpoint.
  const auto saved = newest_checkpoint(settings.run.dir);
  ASSERT_TRUE(saved);
  EXPECT_LT(std::filesystem::file_size(*saved / "dense.safetensors"),
            static_cast<uint64_t>(4 * 3 * straight->parts().store.elements() + 8 * dataset.labels().size() + 65536));

  // Memory settings may change; what decides numbers may not.
  settings.train.chunks = 2;
  EXPECT_TRUE(make(settings, dataset, false)->resume());
  const auto refused = [&](const Config& other, const std::string& word) {
    auto trainer = make(other, dataset, false);
    EXPECT_FAULT(test::fault_of([&] { trainer->resume(); }), word);
  };
  auto other = settings;
  other.lora.rank = 4;
  refused(other, "lora.rank");
  other = settings;
  other.lora.modules = "q,v";
  refused(other, "lora.modules");
  other = settings;
  other.prompt.closing.clear();
  refused(other, "template.closing");
  other = settings;
  other.model.path = (folder_ / "other-decoder").string();
  refused(other, "another base model");
}

TEST_F(TrainerTest, BudgetIsKeptOrRefused) {
  auto settings = lora_config();
  // Steps larger than the passes between them, for every number of ranks.
  settings.train.batch_size = 1200;
  settings.search.block_queries = 64;
  settings.search.block_labels = 512;
  const Dataset dataset(settings.data.path);
  const auto everything = make(settings, dataset, false)->parts().memory;
  settings.train.memory_gb = static_cast<double>(everything.peak_bytes() - everything.step_bytes() / 3) / 1e9;
  const auto squeezed = make(settings, dataset, false)->parts().memory;
  EXPECT_TRUE(squeezed.choice.recompute_layers > 0 || squeezed.choice.chunks > 1);
  EXPECT_LE(squeezed.peak_bytes(), squeezed.budget_bytes);
  settings.train.memory_gb = 0.001;
  EXPECT_FAULT(test::fault_of([&] { make(settings, dataset, false); }), "at least") << "nothing fits into a megabyte";
}

TEST_F(TrainerTest, TopLabelsAreThoseOfOneRank) {
  const auto settings = config();
  const Dataset dataset(settings.data.path);
  auto together = make(settings, dataset, false);
  auto alone = make(settings, dataset, true);
  together->prepare();
  alone->prepare();
  test::SingleRank self;
  const auto found = top_labels(*together, dataset, test::world());
  const auto expected = top_labels(*alone, dataset, self);
  const auto range = RowShards(dataset.test().size(), test::world().world_size()).range(test::world().rank());
  EXPECT_TRUE(found.ids.equal(expected.ids.narrow(0, range.begin, range.size())));
  EXPECT_TRUE(found.scores.equal(expected.scores.narrow(0, range.begin, range.size())));
}

TEST_F(TrainerTest, LabelSideShrinksWithRanks) {
  const auto settings = config();
  const Dataset dataset(settings.data.path);
  const auto together = make(settings, dataset, false);
  const auto bytes = together->parts().prototypes->local_bytes();
  const auto total = test::world().sum_host(bytes);
  const auto alone = make(settings, dataset, true)->parts().prototypes->local_bytes();
  EXPECT_EQ(total, alone) << "shards are a partition";
  if (test::world().rank() == 0)
    fmt::print("label side: {} bytes on rank 0 of {}, {} on one rank alone\n", bytes, test::world().world_size(),
               alone);
}

TEST_F(TrainerTest, ResumingChangesNoBit) {
  const auto settings = config(fmt::format("resume-{}", test::world().world_size()));
  const Dataset dataset(settings.data.path);
  auto straight = make(settings, dataset, false);
  straight->prepare();
  auto expected = losses_of(*straight, 5);
  for (const double loss : losses_of(*straight, 5)) expected.push_back(loss);

  std::vector<double> losses;
  auto second = interrupted(settings, dataset, 5, losses);
  for (const double loss : losses_of(*second, 5)) losses.push_back(loss);
  EXPECT_EQ(losses, expected);
  EXPECT_TRUE(second->parts().store.flat_values().equal(straight->parts().store.flat_values()));
  EXPECT_TRUE(second->parts().bank->local().equal(straight->parts().bank->local()));
  EXPECT_TRUE(
      second->parts().prototypes->free_vectors().local().equal(straight->parts().prototypes->free_vectors().local()));

  // Onto another world size: one rank takes up what W ranks saved.
  test::world().barrier();
  auto alone = make(settings, dataset, true);
  ASSERT_TRUE(alone->resume());
  const auto more = losses_of(*alone, 5);
  for (size_t i = 0; i < more.size(); ++i) EXPECT_NEAR(more[i], expected[5 + i], 1e-5 * expected[5 + i]);
}

TEST_F(TrainerTest, AnotherConfigurationIsRefused) {
  auto settings = config(fmt::format("contradiction-{}", test::world().world_size()));
  const Dataset dataset(settings.data.path);
  auto first = make(settings, dataset, false);
  first->prepare();
  first->run_steps(1);
  first->save();
  settings.train.lr = 1e-3;
  auto second = make(settings, dataset, false);
  EXPECT_FAULT(test::fault_of([&] { second->resume(); }), "train.lr");
}

TEST_F(TrainerTest, BatchSmallerThanTheWorldIsRefused) {
  if (test::world().world_size() == 1) GTEST_SKIP() << "needs two ranks";
  auto settings = config();
  settings.train.batch_size = test::world().world_size() - 1;
  const Dataset dataset(settings.data.path);
  EXPECT_THROW(make(settings, dataset, false), UserError);
}

}  // namespace
}  // namespace vixen

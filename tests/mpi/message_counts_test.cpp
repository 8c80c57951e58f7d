// What is counted against what is sent, and what is planned against what is counted: every collective against the bytes
// that reach MPI, and steps of real runs, by collective, against plan/traffic_plan.hpp.
#include "comm/message_counts.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>

#include "comm/counting_communicator.hpp"
#include "comm/mpi_c.hpp"
#include "mpi/communicator_contract.hpp"
#include "mpi/trainer_fixture.hpp"
#include "objective/partial_objective.hpp"
#include "plan/traffic_plan.hpp"

namespace {
int64_t g_sent_bytes = 0;  // that this process has handed to MPI
}

// MPI's own way to watch its calls: the library's MPI_Isend is a weak symbol for PMPI_Isend.
extern "C" int MPI_Isend(const void* data, int count, MPI_Datatype type, int to, int tag, MPI_Comm comm,
                         MPI_Request* request) {
  int bytes = 0;
  MPI_Type_size(type, &bytes);
  g_sent_bytes += int64_t{count} * bytes;
  return PMPI_Isend(data, count, type, to, tag, comm, request);
}

namespace vixen {

// Counted collectives keep the promises of those that are counted.
std::unique_ptr<Communicator> test::make_tested_communicator() {
  return std::make_unique<CountingCommunicator>(session().make_communicator(DeviceKind::kCpu, kDeadlineSeconds));
}

int64_t test::tested_piece_elements() {
  return kSumPiece;
}

void PrintTo(const MessageCounts& counts, std::ostream* out) {
  for (const auto& [name, count] : named(counts))
    *out << fmt::format("\n  {}: {} calls, {} bytes", name, count.calls, count.bytes);
}

namespace {

using test::world;

int W() {
  return world().world_size();
}

std::shared_ptr<Communicator> shared_world() {
  return {&world(), [](Communicator*) {}};
}

// n rows of rank r: uneven, some ranks have none.
std::vector<int64_t> uneven(int64_t most) {
  std::vector<int64_t> rows;
  for (int rank = 0; rank < W(); ++rank) rows.push_back(rank % 3 == 1 ? 0 : most * (rank + 1) / W());
  return rows;
}

int64_t sum_of(const std::vector<int64_t>& values) {
  return std::accumulate(values.begin(), values.end(), int64_t{0});
}

class MessageCountsTest : public ::testing::Test {
 protected:
  // What `call` sends is counted, under `collective`, as what reaches MPI and what goes by MPI's own collectives.
  template <typename Call>
  void expect_counted(Collective collective, Call call, int64_t by_collectives = 0) {
    const auto counted = comm_.counts();
    const int64_t sent = g_sent_bytes;
    call();
    MessageCounts expected;
    expected.add(collective, g_sent_bytes - sent + by_collectives);
    EXPECT_EQ(comm_.counts() - counted, expected);
  }

  CountingCommunicator comm_{shared_world()};
};

TEST_F(MessageCountsTest, SumsAreCountedToTheByte) {
  for (const int64_t elements : {int64_t{0}, int64_t{1}, kSmallSum, kSmallSum + 1, int64_t{100'003}})
    for (const auto type : {at::kFloat, at::kDouble, at::kBFloat16}) {
      const auto sum = at::ones({elements}, type);
      expect_counted(Collective::kAllReduceSum, [&] { comm_.all_reduce_sum(sum); });
      expect_counted(Collective::kAllReduceSum, [&] { comm_.all_reduce_sum_async(sum)->wait(); });
    }
  const auto pieces = at::ones({kSumPiece + 4099}, at::kBFloat16);
  expect_counted(Collective::kAllReduceSum, [&] { comm_.all_reduce_sum(pieces); });
}

TEST_F(MessageCountsTest, RowsAreCountedToTheByte) {
  const auto rows = uneven(37);
  const auto own = static_cast<size_t>(world().rank());
  expect_counted(Collective::kAllGatherRows, [&] {
    comm_.all_gather_rows(at::ones({rows[own], 5, 3}, at::kHalf), rows);
  });
  expect_counted(Collective::kReduceScatterRows, [&] { comm_.reduce_scatter_rows(at::ones({sum_of(rows), 7}), rows); });
  // Rank r sends r + p rows to rank p, none to the next one.
  const auto rows_to = [&](int from, int to) { return to == (from + 1) % W() && W() > 1 ? 0 : int64_t{from} + to; };
  std::vector<int64_t> send, receive;
  for (int peer = 0; peer < W(); ++peer) {
    send.push_back(rows_to(world().rank(), peer));
    receive.push_back(rows_to(peer, world().rank()));
  }
  expect_counted(Collective::kAllToAllRows, [&] {
    comm_.all_to_all_rows(at::ones({sum_of(send), 11}), send, receive);
  });
  const std::vector<int64_t> values(static_cast<size_t>(sum_of(send)), 3);
  expect_counted(Collective::kAllToAllHost, [&] { comm_.all_to_all_host(values, send, receive); });
}

// Single values and broadcasts go by MPI's own collectives: counted as if the source told every rank.
TEST_F(MessageCountsTest, WhatMpiPassesOnIsCountedAsTold) {
  const int64_t value = 8 * (W() - 1), from_root = world().rank() == 0 ? W() - 1 : 0;
  expect_counted(
      Collective::kBroadcast, [&] { comm_.broadcast(at::ones({100}), 0); }, from_root * 400);
  expect_counted(Collective::kBarrier, [&] { comm_.barrier(); });
  expect_counted(
      Collective::kSumHost, [&] { comm_.sum_host(int64_t{1}); }, value);
  expect_counted(
      Collective::kSumHost, [&] { comm_.sum_host(0.5); }, value);
  expect_counted(
      Collective::kMaxHost, [&] { comm_.max_host(int64_t{1}); }, value);
  expect_counted(
      Collective::kMaxHost, [&] { comm_.max_host(0.5); }, value);
  expect_counted(
      Collective::kMaxHost, [&] { comm_.max_host_async(1)->get(); }, value);
  expect_counted(
      Collective::kAllGatherHost, [&] { comm_.all_gather_host(int64_t{1}); }, value);
  expect_counted(
      Collective::kAllToAllHost, [&] { comm_.all_to_all_host(std::vector<int64_t>(static_cast<size_t>(W()), 1)); },
      value);
  expect_counted(
      Collective::kBroadcastHost, [&] { comm_.broadcast_host("five.", 0); }, value + from_root * 5);
  // The texts themselves are messages, their lengths are not.
  const std::string text(static_cast<size_t>(3 + world().rank()), 'x');
  expect_counted(
      Collective::kAllGatherHost, [&] { comm_.all_gather_host(text); }, value);
}

class CountedRunTest : public test::TrainerFixture {
 protected:
  struct Batch {
    BatchPlan plan;
    std::vector<int64_t> free_vector_rows;
    BatchRows rows() const { return {plan.query_rows, plan.label_rows, free_vector_rows}; }
  };

  static Config counted(Method method, ObjectiveWay way) {
    auto settings = config();
    settings.train.method = method;
    settings.train.objective = way;
    settings.train.batch_size = 149;  // uneven over ranks
    settings.run.count_messages = true;
    settings.comm.bucket_mb = 0.02;  // several buckets
    return settings;
  }

  static TrafficShape traffic_of(const TrainingParts& parts) {
    const auto shape = memory_shape(parts.config, data_shape(parts.dataset, parts.pack), *parts.encoder, parts.store,
                                    W(), W(), /*cpu=*/true);
    return traffic_shape(shape, parts.memory.objective, *parts.encoder, parts.store,
                         parts.prototypes ? &parts.prototypes->network() : nullptr);
  }

  // Step `index` of epoch 0 as the run has it. Collective.
  static Batch batch_of(const TrainingParts& parts, int64_t index) {
    std::vector<int64_t> order(static_cast<size_t>(parts.dataset.train().size()));
    parts.sampler->fill_order(0, order);
    auto extra = parts.sampler->extra_labels(0, index);
    auto most = std::ssize(extra);
    if (parts.mined) {
      const auto mined = parts.mined->offers(static_cast<uint64_t>(index), parts.planner->batch_of(index, order));
      extra.insert(extra.end(), mined.begin(), mined.end());
      most += parts.config.mining.columns;
    }
    Batch batch{parts.planner->plan(0, index, order, extra, most), {}};
    if (parts.prototypes) {
      const auto clusters = parts.prototypes->clusters_of(at::tensor(batch.plan.label_rows, at::kLong));
      batch.free_vector_rows.assign(clusters.const_data_ptr<int64_t>(),
                                    clusters.const_data_ptr<int64_t>() + clusters.numel());
    }
    return batch;
  }

  // Steps 1, 2 and 3, of which step 0 has left nothing behind.
  static void expect_planned(const Config& settings) {
    const Dataset dataset(settings.data.path);
    auto trainer = make(settings, dataset, false);
    const auto& parts = trainer->parts();
    ASSERT_TRUE(parts.messages);
    trainer->prepare();
    std::vector<MessageCounts> counts;
    trainer->run_steps(4, [&](const StepResult&) { counts.push_back(parts.messages->counts()); });
    ASSERT_EQ(counts.size(), 4U);

    const auto shape = traffic_of(parts);
    const StepKind kind{.logged = false, .agrees = false};
    for (int64_t step = 1; step < 4; ++step) {
      const auto batch = batch_of(parts, step);
      const auto rows = batch.rows();
      EXPECT_EQ(counts[static_cast<size_t>(step)] - counts[static_cast<size_t>(step - 1)],
                counts_of(step_exchanges(shape, kind, world().rank(), &rows)))
          << name_of(settings.train.method) << ", " << name_of(parts.memory.objective) << ", step " << step;
    }
  }
};

TEST_F(CountedRunTest, StepsSendWhatIsPlanned) {
  for (const auto method : {Method::kPrime, Method::kNgame, Method::kTriplet})
    for (const auto way : {ObjectiveWay::kReplicated, ObjectiveWay::kSharded}) {
      test::step(fmt::format("{}, {}", name_of(method), name_of(way)));
      expect_planned(counted(method, way));
    }
}

TEST_F(CountedRunTest, AdaptersRoundedGradientsAndClippingSendWhatIsPlanned) {
  auto settings = counted(Method::kPrime, ObjectiveWay::kSharded);
  settings = test::with_toy_adapters(settings, folder_);
  settings.comm.gradients = GradientSums::kBf16;
  expect_planned(settings);
  settings.train.chunks = 3;
  expect_planned(settings);
}

// More label columns than queries, and what queries offer for them: the sums over a run of steps, for a batch's offers
// are asked for some steps ahead.
TEST_F(CountedRunTest, MinedColumnsAreOfferedAsPlanned) {
  auto settings = counted(Method::kPrime, ObjectiveWay::kSharded);
  settings.mining.columns = 40;
  settings.mining.depth = 10;
  settings.mining.start_epoch = 2;  // the lists stay those that are made here
  settings.data.prefetch = 2;
  const Dataset dataset(settings.data.path);
  auto trainer = make(settings, dataset, false);
  const auto& parts = trainer->parts();
  trainer->prepare();
  ASSERT_TRUE(mine_negatives(trainer->parts(), true, {}));
  MessageCounts first, last;
  int64_t steps = 0;
  trainer->run_steps(4, [&](const StepResult&) { (++steps == 1 ? first : last) = parts.messages->counts(); });
  const auto shape = traffic_of(parts);
  MessageCounts expected;
  for (int64_t step = 1; step < 4; ++step) {
    const auto batch = batch_of(parts, step);
    EXPECT_GT(batch.plan.label_rows.size(), batch.plan.query_rows.size());
    const auto rows = batch.rows();
    auto exchanges = step_exchanges(shape, {.logged = false, .agrees = false}, world().rank(), &rows);
    // All four steps' offers were asked for before the first one.
    std::erase_if(exchanges, [](const Exchange& exchange) { return exchange.moment == Moment::kAhead; });
    expected += counts_of(exchanges);
  }
  EXPECT_EQ(last - first, expected);

  const auto before = parts.messages->counts();
  const auto batch = batch_of(parts, 2);
  const auto rows = batch.rows();
  const auto exchanges = step_exchanges(shape, {}, world().rank(), &rows);
  ASSERT_EQ(exchanges.front().moment, Moment::kAhead);
  EXPECT_EQ(parts.messages->counts() - before, counts_of(std::span(exchanges).first(1)));
}

// What a run writes of itself, lines and agreements between ranks included.
TEST_F(CountedRunTest, AnIntervalOfARunIsWrittenAsPlanned) {
  auto settings = counted(Method::kPrime, ObjectiveWay::kReplicated);
  settings.run.dir = (folder_ / fmt::format("counted-{}", W())).string();
  settings.run.log_every_steps = 2;
  settings.train.epochs = 1;
  const Dataset dataset(settings.data.path);
  auto trainer = make(settings, dataset, false);
  const auto& parts = trainer->parts();
  trainer->start();
  EXPECT_TRUE(trainer->run_epoch());
  const auto shape = traffic_of(parts);
  MessageCounts expected;  // steps 2 and 3, and what was agreed upon behind steps 1 and 2
  for (int64_t step = 2; step < 4; ++step) {
    const auto batch = batch_of(parts, step);
    const auto rows = batch.rows();
    expected += counts_of(step_exchanges(shape, {.logged = step == 3, .agrees = true}, world().rank(), &rows));
  }
  if (world().rank() != 0) return;
  std::ifstream lines(std::filesystem::path(settings.run.dir) / "metrics.jsonl");
  bool found = false;
  for (std::string text; std::getline(lines, text);) {
    const auto line = nlohmann::json::parse(text);
    if (line.at("step") != 4 || !line.contains("messages")) continue;
    found = true;
    nlohmann::json planned = nlohmann::json::object();
    for (const auto& [name, count] : named(expected)) planned[name] = {{"calls", count.calls}, {"bytes", count.bytes}};
    EXPECT_EQ(line["messages"].dump(1), planned.dump(1));
  }
  EXPECT_TRUE(found);
}

TEST_F(CountedRunTest, NothingIsCountedUnlessAsked) {
  auto settings = counted(Method::kNgame, ObjectiveWay::kReplicated);
  settings.run.count_messages = false;
  const Dataset dataset(settings.data.path);
  const auto trainer = make(settings, dataset, false);
  EXPECT_FALSE(trainer->parts().messages);
  EXPECT_EQ(trainer->parts().comm.get(), &world());
}

}  // namespace
}  // namespace vixen

// The MPI communicator: every collective against what the ranks' inputs, known to all, must give.
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/check.hpp"
#include "device/device.hpp"
#include "mpi/mpi_main.hpp"

namespace vixen {
namespace {

using test::world;

int W() {
  return world().world_size();
}

// The tensor that rank r holds: any rank can make any rank's.
at::Tensor rank_tensor(int rank, at::IntArrayRef sizes, at::ScalarType type, uint64_t seed = 7) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed * 1000 + static_cast<uint64_t>(rank));
  if (at::isIntegralType(type, false)) return at::randint(-100, 100, sizes, generator, at::dtype(type));
  return at::randn(sizes, generator, at::dtype(at::kDouble)).to(type);
}

at::Tensor sum_in_rank_order(at::IntArrayRef sizes, at::ScalarType type, uint64_t seed = 7) {
  const bool narrow = type == at::kHalf || type == at::kBFloat16;
  at::Tensor sum = rank_tensor(0, sizes, type, seed).to(narrow ? at::kFloat : type);
  for (int rank = 1; rank < W(); ++rank) sum = sum + rank_tensor(rank, sizes, type, seed).to(sum.scalar_type());
  return sum.to(type);
}

TEST(Communicator, all_reduce_sum_is_the_sum_in_rank_order_to_the_bit) {
  for (const auto type : {at::kFloat, at::kDouble, at::kBFloat16, at::kHalf, at::kInt, at::kLong}) {
    for (const int64_t n : {0, 1, 3, 2048, 2049, 100003}) {
      test::step(fmt::format("{} x {}", at::toString(type), n));
      at::Tensor tensor = rank_tensor(world().rank(), {n}, type);
      world().all_reduce_sum(tensor);
      EXPECT_TRUE(at::equal(tensor, sum_in_rank_order({n}, type))) << at::toString(type) << " x " << n;
    }
  }
}

TEST(Communicator, all_reduce_sum_of_many_pieces_and_dimensions) {
  // More than one piece of the sum (32 Mi elements) and scalars.
  at::Tensor large = at::full({(int64_t{33} << 20) + 5}, world().rank() + 1, at::kInt);
  world().all_reduce_sum(large);
  EXPECT_EQ(large.min().item<int>(), W() * (W() + 1) / 2);
  EXPECT_EQ(large.max().item<int>(), W() * (W() + 1) / 2);
  at::Tensor scalar = at::full({}, 2.0f);
  world().all_reduce_sum(scalar);
  EXPECT_EQ(scalar.item<float>(), 2.0f * static_cast<float>(W()));
  at::Tensor cube = rank_tensor(world().rank(), {3, 5, 400}, at::kFloat);
  world().all_reduce_sum(cube);
  EXPECT_TRUE(at::equal(cube, sum_in_rank_order({3, 5, 400}, at::kFloat)));
}

TEST(Communicator, several_sums_in_flight_with_other_collectives_between) {
  std::vector<at::Tensor> tensors;
  std::vector<std::unique_ptr<CommHandle>> handles;
  for (uint64_t i = 0; i < 5; ++i) {
    tensors.push_back(rank_tensor(world().rank(), {static_cast<int64_t>(i) * 3000 + 10}, at::kFloat, i));
    handles.push_back(world().all_reduce_sum_async(tensors.back()));
    EXPECT_EQ(world().sum_host(int64_t{1}), W());
  }
  for (uint64_t i = 0; i < 5; ++i) {
    handles[i]->wait();
    EXPECT_TRUE(at::equal(tensors[i], sum_in_rank_order({static_cast<int64_t>(i) * 3000 + 10}, at::kFloat, i)));
    handles[i]->wait();  // a second wait() changes nothing
  }
  EXPECT_TRUE(at::equal(tensors[2], sum_in_rank_order({6010}, at::kFloat, 2)));
}

TEST(Communicator, all_gather_rows_with_uneven_and_empty_shards) {
  std::vector<int64_t> rows;
  rows.reserve(static_cast<size_t>(W()));
  for (int rank = 0; rank < W(); ++rank) rows.push_back(rank == 1 ? 0 : 3 * rank + 2);
  for (const auto type : {at::kFloat, at::kHalf, at::kLong, at::kChar}) {
    std::vector<at::Tensor> parts;
    parts.reserve(static_cast<size_t>(W()));
    for (int rank = 0; rank < W(); ++rank)
      parts.push_back(rank_tensor(rank, {rows[static_cast<size_t>(rank)], 2, 3}, type));
    const at::Tensor all = world().all_gather_rows(parts[static_cast<size_t>(world().rank())], rows);
    EXPECT_TRUE(at::equal(all, at::cat(parts)));
  }
  const std::vector<int64_t> none(static_cast<size_t>(W()), 0);
  EXPECT_EQ(world().all_gather_rows(at::empty({0, 4}), none).sizes(), (at::IntArrayRef{0, 4}));
}

TEST(Communicator, reduce_scatter_rows_is_the_sum_in_rank_order_to_the_bit) {
  // Even, uneven with a rank that gets nothing, and nothing at all; rows of a few, one and no elements.
  const auto counts_of = [](auto count) {
    std::vector<int64_t> rows;
    rows.reserve(static_cast<size_t>(W()));
    for (int rank = 0; rank < W(); ++rank) rows.push_back(count(rank));
    return rows;
  };
  const std::vector<std::vector<int64_t>> cases = {counts_of([](int) { return int64_t{3}; }), counts_of([](int rank) {
                                                     return int64_t{rank == 1 ? 0 : 5 * rank + 2};
                                                   }),
                                                   counts_of([](int) { return int64_t{0}; })};
  for (const auto type : {at::kFloat, at::kDouble, at::kBFloat16, at::kHalf, at::kInt, at::kLong}) {
    for (const auto& rows : cases) {
      for (const int64_t width : {0, 1, 700}) {
        const int64_t all = std::accumulate(rows.begin(), rows.end(), int64_t{0});
        test::step(fmt::format("{} x {} x {}", at::toString(type), all, width));
        const at::Tensor given = rank_tensor(world().rank(), {all, width}, type), before = given.clone();
        const at::Tensor own = world().reduce_scatter_rows(given, rows);
        int64_t first = 0;
        for (int rank = 0; rank < world().rank(); ++rank) first += rows[static_cast<size_t>(rank)];
        const auto expected = sum_in_rank_order({all, width}, type);
        EXPECT_TRUE(at::equal(own, expected.narrow(0, first, rows[static_cast<size_t>(world().rank())])))
            << at::toString(type) << ", " << all << " rows of " << width;
        EXPECT_TRUE(at::equal(given, before)) << "what was given is left as it is";
      }
    }
  }
}

TEST(Communicator, reduce_scatter_rows_of_many_pieces) {
  // Two pieces and a bit: a rank's part of one is 32 Mi elements over W ranks. The last rank has three rows less.
  const int64_t width = int64_t{1} << 20, most = 2 * (32 / W()) + 5;
  std::vector<int64_t> rows(static_cast<size_t>(W()), most);
  rows.back() -= 3;
  const int64_t all = std::accumulate(rows.begin(), rows.end(), int64_t{0});
  const auto row_numbers = at::arange(all, at::kInt).unsqueeze(1);
  const at::Tensor given = (row_numbers + world().rank()).expand({all, width}).contiguous();
  const at::Tensor own = world().reduce_scatter_rows(given, rows);
  ASSERT_EQ(own.size(0), rows[static_cast<size_t>(world().rank())]);
  const auto expected = row_numbers.narrow(0, world().rank() * most, own.size(0)) * W() + W() * (W() - 1) / 2;
  EXPECT_TRUE(at::equal(own, expected.expand({own.size(0), width})));
}

TEST(Communicator, all_to_all_rows_with_uneven_and_empty_parts) {
  // Rank s sends (s + 2 d) % 4 rows to rank d, each row telling where it comes from.
  const auto count = [](int source, int target) { return int64_t{(source + 2 * target) % 4}; };
  const int own = world().rank();
  std::vector<int64_t> send_rows, receive_rows;
  std::vector<at::Tensor> send, expected;
  for (int peer = 0; peer < W(); ++peer) {
    send_rows.push_back(count(own, peer));
    receive_rows.push_back(count(peer, own));
    send.push_back(at::full({send_rows.back(), 5}, own * 100 + peer, at::kInt));
    expected.push_back(at::full({receive_rows.back(), 5}, peer * 100 + own, at::kInt));
  }
  EXPECT_EQ(world().all_to_all_host(send_rows), receive_rows);
  EXPECT_TRUE(at::equal(world().all_to_all_rows(at::cat(send), send_rows, receive_rows), at::cat(expected)));
}

TEST(Communicator, messages_longer_than_a_piece) {
  // 96 MiB from every rank to the next one, and a broadcast of the same.
  const int64_t rows = 3 << 20;
  std::vector<int64_t> send_rows(static_cast<size_t>(W()), 0), receive_rows(static_cast<size_t>(W()), 0);
  send_rows[static_cast<size_t>((world().rank() + 1) % W())] = rows;
  receive_rows[static_cast<size_t>((world().rank() + W() - 1) % W())] = rows;
  at::Tensor send = at::arange(rows * 8, at::kInt).view({rows, 8}).add_(world().rank());
  at::Tensor got = world().all_to_all_rows(send, send_rows, receive_rows);
  const int from = (world().rank() + W() - 1) % W();
  EXPECT_TRUE(at::equal(got, at::arange(rows * 8, at::kInt).view({rows, 8}).add_(from)));
  world().broadcast(send, W() - 1);
  EXPECT_TRUE(at::equal(send, at::arange(rows * 8, at::kInt).view({rows, 8}).add_(W() - 1)));
}

TEST(Communicator, a_maximum_may_be_asked_for_and_looked_at_later) {
  auto first = world().max_host_async(10 * world().rank());
  auto tensor = at::ones({1000});
  world().all_reduce_sum(tensor);
  EXPECT_EQ(world().max_host(int64_t{world().rank()}), W() - 1);
  auto second = world().max_host_async(-world().rank());
  EXPECT_EQ(first->get(), 10 * (W() - 1));
  world().barrier();
  EXPECT_EQ(second->get(), 0);
  EXPECT_EQ(tensor[0].item<double>(), W());
}

TEST(Communicator, host_values) {
  const int own = world().rank();
  EXPECT_EQ(world().sum_host(int64_t{own + 1}), W() * (W() + 1) / 2);
  EXPECT_EQ(world().max_host(int64_t{own}), W() - 1);
  EXPECT_EQ(world().max_host(-1.5 - own), -1.5);
  double expected = 0;
  for (int rank = 0; rank < W(); ++rank) expected += std::sin(rank + 0.1);
  EXPECT_EQ(world().sum_host(std::sin(own + 0.1)), expected);
  EXPECT_TRUE(std::isnan(world().max_host(own == 0 ? std::numeric_limits<double>::quiet_NaN() : 1.0)));
  std::vector<int64_t> all = world().all_gather_host(int64_t{own * own});
  for (int rank = 0; rank < W(); ++rank) EXPECT_EQ(all[static_cast<size_t>(rank)], rank * rank);
  EXPECT_EQ(world().broadcast_host(own == W() - 1 ? std::string("a\0b", 3) : "ignored", W() - 1),
            std::string("a\0b", 3));
  const auto texts = world().all_gather_host(std::string(static_cast<size_t>(own), 'x'));
  ASSERT_EQ(std::ssize(texts), W());
  for (int rank = 0; rank < W(); ++rank)
    EXPECT_EQ(texts[static_cast<size_t>(rank)], std::string(static_cast<size_t>(rank), 'x'));
  world().barrier();
}

TEST(Communicator, ranks_of_one_node_are_counted) {
  EXPECT_EQ(test::session().world_size(), W());
  EXPECT_EQ(test::session().local_size(), W());  // ctest runs on one machine
  EXPECT_EQ(test::session().local_rank(), world().rank());
  EXPECT_FALSE(test::session().host().empty());
}

TEST(Communicator, a_device_that_is_not_there_is_the_users_mistake) {
  if (gpu_count() == 0) {
    EXPECT_THROW(test::session().make_communicator(DeviceKind::kCuda, 5), UserError);
  }
}

TEST(Communicator, a_message_of_unexpected_length_is_an_error) {
  if (W() != 2) GTEST_SKIP() << "needs 2 ranks";
  // Rank 0 sends 3 rows where rank 1 expects 4. A communicator of its own, since its order of messages ends up broken.
  const auto comm = test::session().make_communicator(DeviceKind::kCpu, 2);
  const bool first = comm->rank() == 0;
  const std::vector<int64_t> send_rows = first ? std::vector<int64_t>{0, 3} : std::vector<int64_t>{0, 0};
  const std::vector<int64_t> receive_rows = first ? std::vector<int64_t>{0, 0} : std::vector<int64_t>{4, 0};
  const auto exchange = [&] { comm->all_to_all_rows(at::zeros({first ? 3 : 0, 2}), send_rows, receive_rows); };
  if (first) {
    exchange();
  } else {
    try {
      exchange();
      FAIL() << "no error";
    } catch (const CommError& error) {
      EXPECT_NE(std::string(error.what()).find("rank 0 sent 24 bytes where 32 were expected"), std::string::npos)
          << error.what();
    }
  }
}

TEST(Communicator, a_missing_rank_is_named_after_the_deadline) {
  if (W() == 1) GTEST_SKIP() << "needs 2 ranks";
  const auto comm = test::session().make_communicator(DeviceKind::kCpu, 1.0);
  std::vector<int64_t> rows(static_cast<size_t>(W()), 1);
  if (comm->rank() == 1) {
    // This rank stays away for longer than the deadline, then takes part to bring its peers' messages home.
    std::this_thread::sleep_for(std::chrono::milliseconds(2500));
    comm->all_gather_rows(at::ones({1, 2}), rows);
    return;
  }
  const auto start = std::chrono::steady_clock::now();
  try {
    comm->all_gather_rows(at::ones({1, 2}), rows);
    ADD_FAILURE() << "no error";
  } catch (const CommError& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("all_gather_rows"), std::string::npos) << text;
    EXPECT_NE(text.find(fmt::format("rank {} of {}", comm->rank(), W())), std::string::npos) << text;
    EXPECT_NE(text.find("waiting for rank 1"), std::string::npos) << text;
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  EXPECT_GE(seconds, 1.0);
  EXPECT_LT(seconds, 2.5);
}

}  // namespace
}  // namespace vixen

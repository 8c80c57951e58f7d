#include "mpi/communicator_contract.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "mpi/rank_tests.hpp"

namespace vixen::test {
namespace {

Communicator* g_tested = nullptr;

Communicator& tested() {
  return *g_tested;
}

int W() {
  return tested().world_size();
}

// On the communicator's device, and back: tensors are made and compared on the CPU.
at::Tensor up(const at::Tensor& tensor) {
  return tensor.to(tested().device());
}

class CommunicatorContract : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { g_tested = make_tested_communicator().release(); }
  static void TearDownTestSuite() { delete std::exchange(g_tested, nullptr); }
};

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

TEST_F(CommunicatorContract, all_reduce_sum_is_the_sum_in_rank_order_to_the_bit) {
  for (const auto type : {at::kFloat, at::kDouble, at::kBFloat16, at::kHalf, at::kInt, at::kLong}) {
    for (const int64_t n : {0, 1, 3, 2048, 2049, 100003}) {
      step(fmt::format("{} x {}", at::toString(type), n));
      const at::Tensor tensor = up(rank_tensor(tested().rank(), {n}, type));
      tested().all_reduce_sum(tensor);
      EXPECT_TRUE(at::equal(tensor.cpu(), sum_in_rank_order({n}, type))) << at::toString(type) << " x " << n;
    }
  }
}

TEST_F(CommunicatorContract, all_reduce_sum_of_many_pieces_and_dimensions) {
  // More than one piece of the sum, and scalars.
  const int64_t piece = tested_piece_elements();
  at::Tensor large = up(at::full({piece + piece / 32 + 5}, tested().rank() + 1, at::kInt));
  tested().all_reduce_sum(large);
  large = large.cpu();
  EXPECT_EQ(large.min().item<int>(), W() * (W() + 1) / 2);
  EXPECT_EQ(large.max().item<int>(), W() * (W() + 1) / 2);
  const at::Tensor scalar = up(at::full({}, 2.0f));
  tested().all_reduce_sum(scalar);
  EXPECT_EQ(scalar.item<float>(), 2.0f * static_cast<float>(W()));
  const at::Tensor cube = up(rank_tensor(tested().rank(), {3, 5, 400}, at::kFloat));
  tested().all_reduce_sum(cube);
  EXPECT_TRUE(at::equal(cube.cpu(), sum_in_rank_order({3, 5, 400}, at::kFloat)));
}

TEST_F(CommunicatorContract, several_sums_in_flight_with_other_collectives_between) {
  std::vector<at::Tensor> tensors;
  std::vector<std::unique_ptr<CommHandle>> handles;
  for (uint64_t i = 0; i < 5; ++i) {
    tensors.push_back(up(rank_tensor(tested().rank(), {static_cast<int64_t>(i) * 3000 + 10}, at::kFloat, i)));
    handles.push_back(tested().all_reduce_sum_async(tensors.back()));
    EXPECT_EQ(tested().sum_host(int64_t{1}), W());
  }
  for (uint64_t i = 0; i < 5; ++i) {
    handles[i]->wait();
    EXPECT_TRUE(at::equal(tensors[i].cpu(), sum_in_rank_order({static_cast<int64_t>(i) * 3000 + 10}, at::kFloat, i)));
    handles[i]->wait();  // a second wait() changes nothing
  }
  EXPECT_TRUE(at::equal(tensors[2].cpu(), sum_in_rank_order({6010}, at::kFloat, 2)));
}

TEST_F(CommunicatorContract, all_gather_rows_with_uneven_and_empty_shards) {
  std::vector<int64_t> rows;
  rows.reserve(static_cast<size_t>(W()));
  for (int rank = 0; rank < W(); ++rank) rows.push_back(rank == 1 ? 0 : 3 * rank + 2);
  for (const auto type : {at::kFloat, at::kHalf, at::kLong, at::kChar}) {
    std::vector<at::Tensor> parts;
    parts.reserve(static_cast<size_t>(W()));
    for (int rank = 0; rank < W(); ++rank)
      parts.push_back(rank_tensor(rank, {rows[static_cast<size_t>(rank)], 2, 3}, type));
    const at::Tensor all = tested().all_gather_rows(up(parts[static_cast<size_t>(tested().rank())]), rows);
    EXPECT_TRUE(at::equal(all.cpu(), at::cat(parts)));
  }
  const std::vector<int64_t> none(static_cast<size_t>(W()), 0);
  EXPECT_EQ(tested().all_gather_rows(up(at::empty({0, 4})), none).sizes(), (at::IntArrayRef{0, 4}));
}

TEST_F(CommunicatorContract, reduce_scatter_rows_is_the_sum_in_rank_order_to_the_bit) {
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
        step(fmt::format("{} x {} x {}", at::toString(type), all, width));
        const at::Tensor before = rank_tensor(tested().rank(), {all, width}, type), given = up(before.clone());
        const at::Tensor own = tested().reduce_scatter_rows(given, rows);
        int64_t first = 0;
        for (int rank = 0; rank < tested().rank(); ++rank) first += rows[static_cast<size_t>(rank)];
        const auto expected = sum_in_rank_order({all, width}, type);
        EXPECT_TRUE(at::equal(own.cpu(), expected.narrow(0, first, rows[static_cast<size_t>(tested().rank())])))
            << at::toString(type) << ", " << all << " rows of " << width;
        EXPECT_TRUE(at::equal(given.cpu(), before)) << "what was given is left as it is";
      }
    }
  }
}

TEST_F(CommunicatorContract, reduce_scatter_rows_of_many_pieces) {
  // Two pieces and a bit: a rank's part of one is its elements over W ranks. The last rank has three rows less.
  const int64_t width = tested_piece_elements() / 32, most = 2 * (32 / W()) + 5;
  std::vector<int64_t> rows(static_cast<size_t>(W()), most);
  rows.back() -= 3;
  const int64_t all = std::accumulate(rows.begin(), rows.end(), int64_t{0});
  const auto row_numbers = at::arange(all, at::kInt).unsqueeze(1);
  const at::Tensor given = up((row_numbers + tested().rank()).expand({all, width}).contiguous());
  const at::Tensor own = tested().reduce_scatter_rows(given, rows);
  ASSERT_EQ(own.size(0), rows[static_cast<size_t>(tested().rank())]);
  const auto expected = row_numbers.narrow(0, tested().rank() * most, own.size(0)) * W() + W() * (W() - 1) / 2;
  EXPECT_TRUE(at::equal(own.cpu(), expected.expand({own.size(0), width})));
}

TEST_F(CommunicatorContract, all_to_all_rows_with_uneven_and_empty_parts) {
  // Rank s sends (s + 2 d) % 4 rows to rank d, each row telling where it comes from.
  const auto count = [](int source, int target) { return int64_t{(source + 2 * target) % 4}; };
  const int own = tested().rank();
  std::vector<int64_t> send_rows, receive_rows;
  std::vector<at::Tensor> send, expected;
  for (int peer = 0; peer < W(); ++peer) {
    send_rows.push_back(count(own, peer));
    receive_rows.push_back(count(peer, own));
    send.push_back(at::full({send_rows.back(), 5}, own * 100 + peer, at::kInt));
    expected.push_back(at::full({receive_rows.back(), 5}, peer * 100 + own, at::kInt));
  }
  EXPECT_EQ(tested().all_to_all_host(send_rows), receive_rows);
  const at::Tensor got = tested().all_to_all_rows(up(at::cat(send)), send_rows, receive_rows);
  EXPECT_TRUE(at::equal(got.cpu(), at::cat(expected)));
}

TEST_F(CommunicatorContract, messages_longer_than_a_piece) {
  // Three quarters of a piece of elements, in four bytes each, from every rank to the next one, and a broadcast of the
  // same.
  const int64_t rows = tested_piece_elements() / 32 * 3;
  std::vector<int64_t> send_rows(static_cast<size_t>(W()), 0), receive_rows(static_cast<size_t>(W()), 0);
  send_rows[static_cast<size_t>((tested().rank() + 1) % W())] = rows;
  receive_rows[static_cast<size_t>((tested().rank() + W() - 1) % W())] = rows;
  const at::Tensor send = up(at::arange(rows * 8, at::kInt).view({rows, 8}).add_(tested().rank()));
  const at::Tensor got = tested().all_to_all_rows(send, send_rows, receive_rows);
  const int from = (tested().rank() + W() - 1) % W();
  EXPECT_TRUE(at::equal(got.cpu(), at::arange(rows * 8, at::kInt).view({rows, 8}).add_(from)));
  tested().broadcast(send, W() - 1);
  EXPECT_TRUE(at::equal(send.cpu(), at::arange(rows * 8, at::kInt).view({rows, 8}).add_(W() - 1)));
}

TEST_F(CommunicatorContract, host_values) {
  const int own = tested().rank();
  EXPECT_EQ(tested().sum_host(int64_t{own + 1}), W() * (W() + 1) / 2);
  EXPECT_EQ(tested().max_host(int64_t{own}), W() - 1);
  EXPECT_EQ(tested().max_host(-1.5 - own), -1.5);
  double expected = 0;
  for (int rank = 0; rank < W(); ++rank) expected += std::sin(rank + 0.1);
  EXPECT_EQ(tested().sum_host(std::sin(own + 0.1)), expected);
  EXPECT_TRUE(std::isnan(tested().max_host(own == 0 ? std::numeric_limits<double>::quiet_NaN() : 1.0)));
  std::vector<int64_t> all = tested().all_gather_host(int64_t{own * own});
  for (int rank = 0; rank < W(); ++rank) EXPECT_EQ(all[static_cast<size_t>(rank)], rank * rank);
  EXPECT_EQ(tested().broadcast_host(own == W() - 1 ? std::string("a\0b", 3) : "ignored", W() - 1),
            std::string("a\0b", 3));
  const auto texts = tested().all_gather_host(std::string(static_cast<size_t>(own), 'x'));
  ASSERT_EQ(std::ssize(texts), W());
  for (int rank = 0; rank < W(); ++rank)
    EXPECT_EQ(texts[static_cast<size_t>(rank)], std::string(static_cast<size_t>(rank), 'x'));
  tested().barrier();
}

}  // namespace
}  // namespace vixen::test

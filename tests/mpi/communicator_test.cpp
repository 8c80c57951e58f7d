// The MPI communicator: the contract, and what it says when ranks disagree or stay away.
#include <gtest/gtest.h>

#include <chrono>

#include "base/check.hpp"
#include "device/device.hpp"
#include "mpi/communicator_contract.hpp"
#include "mpi/mpi_main.hpp"

namespace vixen {

std::unique_ptr<Communicator> test::make_tested_communicator() {
  return session().make_communicator(DeviceKind::kCpu, kDeadlineSeconds);
}

int64_t test::tested_piece_elements() {
  return int64_t{32} << 20;
}

namespace {

using test::world;

int W() {
  return world().world_size();
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

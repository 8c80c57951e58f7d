// The NCCL communicator over doubles of libnccl and the CUDA runtime: the contract of all communicators, what runs on
// which stream in which order, and how each kind of failure ends.
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <numeric>
#include <stdexcept>
#include <thread>

#include "device/device.hpp"
#include "mpi/communicator_contract.hpp"
#include "mpi/rank_tests.hpp"
#include "nccl_doubles/faults.hpp"

namespace vixen {

std::unique_ptr<Communicator> test::make_tested_communicator() {
  return session().make_communicator(DeviceKind::kCuda, kDeadlineSeconds);
}

int64_t test::tested_piece_elements() {
  return int64_t{1} << 18;  // of the double's sums
}

namespace {

using test::world;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr int64_t kElements = 5000;

int W() {
  return world().world_size();
}

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::unique_ptr<Communicator> on_gpus(double deadline_seconds = test::kDeadlineSeconds) {
  return test::session().make_communicator(DeviceKind::kCuda, deadline_seconds);
}

at::Tensor filled(const Communicator& comm, float value, int64_t elements = kElements) {
  return at::full({elements}, value).to(comm.device());
}

cudaStream_t current(const Communicator& comm) {
  return c10::cuda::getCurrentCUDAStream(comm.device().index());
}

bool all_are(const at::Tensor& tensor, double value) {
  return tensor.cpu().eq(value).all().item<bool>();
}

// A stream stands still here until open().
class Gate {
 public:
  explicit Gate(cudaStream_t stream) { cudaLaunchHostFunc(stream, &wait, this); }
  ~Gate() { open(); }
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;
  void open() {
    std::unique_lock lock(mutex_);
    open_ = true;
    wake_.notify_all();
    wake_.wait(lock, [this] { return passed_; });
  }

 private:
  static void wait(void* gate) {
    auto* self = static_cast<Gate*>(gate);
    std::unique_lock lock(self->mutex_);
    self->wake_.wait(lock, [self] { return self->open_; });
    self->passed_ = true;
    self->wake_.notify_all();
  }
  std::mutex mutex_;
  std::condition_variable wake_;
  bool open_ = false, passed_ = false;
};

// The current stream's work: it waits for the gate, then writes `value` to all of a tensor.
class Late {
 public:
  Late(const Communicator& comm, const at::Tensor& tensor, float value)
      : values_(at::full({tensor.numel()}, value)), gate_(current(comm)) {
    cudaMemcpyAsync(tensor.data_ptr(), values_.const_data_ptr(), values_.nbytes(), cudaMemcpyHostToDevice,
                    current(comm));
  }
  void open() { gate_.open(); }

 private:
  at::Tensor values_;
  Gate gate_;
};

// Each collective, given a tensor of W * 10 rows that the current stream has not written yet, and the first element of
// what it must give on this rank if it waits until all have written their rank.
struct Collective {
  const char* name;
  std::function<at::Tensor(Communicator&, at::Tensor)> run;
  std::function<double()> expected;
};

std::vector<Collective> collectives() {
  const auto even = [](int64_t rows) { return std::vector<int64_t>(static_cast<size_t>(W()), rows); };
  // Rank r has r + 1 of these.
  const auto uneven = [] {
    std::vector<int64_t> rows(static_cast<size_t>(W()));
    std::iota(rows.begin(), rows.end(), 1);
    return rows;
  };
  const auto sum_of_ranks = [] { return W() * (W() - 1) / 2.0; };
  const auto zero = [] { return 0.0; };
  return {
      {"all_reduce_sum",
       [](Communicator& comm, at::Tensor tensor) {
         comm.all_reduce_sum(tensor);
         return tensor;
       },
       sum_of_ranks},
      {"all_reduce_sum_async",
       [](Communicator& comm, at::Tensor tensor) {
         comm.all_reduce_sum_async(tensor)->wait();
         return tensor;
       },
       sum_of_ranks},
      {"all_gather_rows, even",
       [even](Communicator& comm, const at::Tensor& tensor) {
         return comm.all_gather_rows(tensor, even(tensor.size(0)));
       },
       zero},
      {"all_gather_rows, uneven",
       [uneven](Communicator& comm, const at::Tensor& tensor) {
         return comm.all_gather_rows(tensor.narrow(0, 0, comm.rank() + 1), uneven());
       },
       zero},
      {"reduce_scatter_rows, even",
       [even](Communicator& comm, const at::Tensor& tensor) { return comm.reduce_scatter_rows(tensor, even(10)); },
       sum_of_ranks},
      {"reduce_scatter_rows, uneven",
       [uneven](Communicator& comm, const at::Tensor& tensor) {
         const auto rows = uneven();
         return comm.reduce_scatter_rows(tensor.narrow(0, 0, std::accumulate(rows.begin(), rows.end(), int64_t{0})),
                                         rows);
       },
       sum_of_ranks},
      {"all_to_all_rows",
       [even](Communicator& comm, const at::Tensor& tensor) {
         return comm.all_to_all_rows(tensor, even(10), even(10));
       },
       zero},
      {"broadcast",
       [](Communicator& comm, at::Tensor tensor) {
         comm.broadcast(tensor, W() - 1);
         return tensor;
       },
       [] { return W() - 1.0; }},
  };
}

void expect_collectives_follow_the_current_stream(Communicator& comm) {
  for (const Collective& collective : collectives()) {
    test::step(collective.name);
    const at::Tensor tensor = at::full({int64_t{W()} * 10, 7}, -1.0f).to(comm.device());
    Late late(comm, tensor, static_cast<float>(comm.rank()));
    const at::Tensor result = collective.run(comm, tensor);
    // A collective that did not wait would be over by now, over what was there before.
    std::this_thread::sleep_for(30ms);
    late.open();
    EXPECT_EQ(result.cpu().flatten()[0].item<double>(), collective.expected()) << collective.name;
  }
}

TEST(NcclStreams, collectives_follow_the_current_stream) {
  const auto comm = on_gpus();
  expect_collectives_follow_the_current_stream(*comm);
}

TEST(NcclStreams, another_stream_may_be_the_current_one) {
  const auto comm = on_gpus();
  const c10::cuda::CUDAStreamGuard guard(c10::cuda::getStreamFromPool(false, comm->device().index()));
  expect_collectives_follow_the_current_stream(*comm);
}

TEST(NcclStreams, a_sum_that_was_started_goes_on_beside_the_current_stream) {
  const auto comm = on_gpus();
  const auto tensor = filled(*comm, 1);
  const auto sum = comm->all_reduce_sum_async(tensor);
  Gate gate(current(*comm));
  const c10::cuda::CUDAStreamGuard guard(c10::cuda::getStreamFromPool(false, comm->device().index()));
  sum->wait();
  EXPECT_TRUE(all_are(tensor, W()));  // while the other stream stands still
}

TEST(NcclStreams, the_current_stream_waits_for_the_end_of_a_sum) {
  const auto comm = on_gpus();
  const auto tensor = filled(*comm, 0);
  {
    // The sum waits for this stream, and another one for the sum.
    Late late(*comm, tensor, 1);
    const auto sum = comm->all_reduce_sum_async(tensor);
    const c10::cuda::CUDAStreamGuard guard(c10::cuda::getStreamFromPool(false, comm->device().index()));
    sum->wait();
    at::Tensor copy = at::empty({kElements});
    std::thread reader([&, stream = current(*comm)] {
      c10::cuda::set_device(comm->device().index());
      cudaMemcpyAsync(copy.data_ptr(), tensor.const_data_ptr(), copy.nbytes(), cudaMemcpyDeviceToHost, stream);
      cudaStreamSynchronize(stream);
    });
    std::this_thread::sleep_for(30ms);
    late.open();
    reader.join();
    EXPECT_TRUE(copy.eq(W()).all().item<bool>());
  }
}

TEST(NcclStreams, memory_of_a_sum_under_way_is_not_used_again) {
  const auto comm = on_gpus();
  auto tensor = filled(*comm, 1);
  const void* address = tensor.const_data_ptr();
  Gate gate(current(*comm));
  {
    const auto dropped = comm->all_reduce_sum_async(tensor);
    tensor.reset();
  }
  const auto next = at::empty({kElements}, at::dtype(at::kFloat).device(comm->device()));
  EXPECT_NE(next.const_data_ptr(), address);
  gate.open();
  cudaDeviceSynchronize();
}

TEST(NcclStreams, sums_on_the_side_and_collectives_between_keep_their_order) {
  const auto comm = on_gpus();
  std::vector<at::Tensor> tensors;
  std::vector<std::unique_ptr<CommHandle>> handles;
  for (int i = 0; i < 6; ++i) {
    tensors.push_back(filled(*comm, static_cast<float>(i), 40000));
    handles.push_back(comm->all_reduce_sum_async(tensors.back()));
    const auto own = filled(*comm, static_cast<float>(comm->rank()), 3);
    const std::vector<int64_t> rows(static_cast<size_t>(W()), 3);
    const auto all = comm->all_gather_rows(own, rows).cpu();
    for (int rank = 0; rank < W(); ++rank) EXPECT_EQ(all[rank * 3].item<float>(), static_cast<float>(rank));
  }
  for (size_t i = 0; i < handles.size(); ++i) {
    handles[i]->wait();
    EXPECT_TRUE(all_are(tensors[i], static_cast<double>(i) * W()));
  }
}

TEST(NcclGroups, an_uneven_collective_is_one_group) {
  const auto comm = on_gpus();
  std::vector<int64_t> rows(static_cast<size_t>(W()), 2);
  rows[0] = 0;
  const auto own = filled(*comm, 1, rows[static_cast<size_t>(comm->rank())]);
  const auto before = doubles::counts();
  comm->all_gather_rows(own, rows);
  comm->reduce_scatter_rows(filled(*comm, 1, 2 * (W() - 1)), rows);
  EXPECT_EQ(doubles::counts().groups - before.groups, 2);
  EXPECT_EQ(doubles::counts().grouped_calls - before.grouped_calls, 2 * (W() - 1));
  // To every rank and from every rank: one group, or ranks that send first wait for one another.
  const std::vector<int64_t> ones(static_cast<size_t>(W()), 1);
  comm->all_to_all_rows(filled(*comm, 1, W()), ones, ones);
  EXPECT_EQ(doubles::counts().groups - before.groups, 3);
  EXPECT_EQ(doubles::counts().grouped_calls - before.grouped_calls, 2 * (W() - 1) + 2 * W());
  cudaDeviceSynchronize();
}

// ---- failures: each test has a communicator of its own, which it breaks.

constexpr double kDeadline = 1.0;
constexpr double kAtMost = 2.0;  // after which all is over

void expect_says(const std::string& message, const std::string& part) {
  EXPECT_NE(message.find(part), std::string::npos) << message << "\nwithout: " << part;
}

// What `call` throws; it must.
template <typename Call>
std::string error_of(const Call& call) {
  try {
    call();
  } catch (const CommError& error) {
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return {};
}

std::string own_name() {
  return fmt::format("rank {} of {} on {}: ", world().rank(), W(), test::session().host());
}

class NcclFailures : public ::testing::Test {
 protected:
  void SetUp() override {
    before_ = doubles::counts();
    doubles::notice_lost_peers(false);  // else a rank may see that another one has given up a moment before
  }
  void TearDown() override {
    world().barrier();
    doubles::notice_lost_peers(true);
    const auto after = doubles::counts();
    EXPECT_EQ(after.made - before_.made, after.aborted - before_.aborted + after.destroyed - before_.destroyed);
  }
  int aborted() const { return doubles::counts().aborted - before_.aborted; }

  // By the watcher, within kAtMost; what the communicator then says.
  std::string failure_of(Communicator& comm, const at::Tensor& tensor) const {
    const auto start = Clock::now();
    while (aborted() == 0 && seconds_since(start) < kAtMost) std::this_thread::sleep_for(1ms);
    EXPECT_EQ(aborted(), 1);
    return error_of([&] { comm.broadcast(tensor, 0); });
  }

  // A collective that hangs frees the host at the deadline, and the next call says so.
  static void expect_deadline(Communicator& comm, const std::string& what) {
    const auto start = Clock::now();
    const auto tensor = filled(comm, 1);
    comm.all_reduce_sum(tensor);
    tensor.cpu();  // would wait for ever
    EXPECT_GE(seconds_since(start), kDeadline);
    EXPECT_LT(seconds_since(start), kAtMost);
    expect_says(error_of([&] { comm.all_reduce_sum(tensor); }), own_name() + what);
  }

  doubles::Counts before_;
};

TEST_F(NcclFailures, a_communicator_that_ends_well_is_finalised) {
  on_gpus().reset();
  const auto after = doubles::counts();
  EXPECT_EQ(after.finalized - before_.finalized, 1);
  EXPECT_EQ(after.destroyed - before_.destroyed, 1);
  EXPECT_EQ(aborted(), 0);
}

TEST_F(NcclFailures, while_an_exception_unwinds_nobody_waits_for_the_others) {
  try {
    const auto comm = on_gpus();
    throw std::runtime_error("something else");
  } catch (const std::runtime_error&) {
    EXPECT_EQ(aborted(), 1);
  }
}

TEST_F(NcclFailures, a_rank_that_stays_away_is_noticed_at_the_deadline) {
  const auto comm = on_gpus(kDeadline);
  doubles::notice_lost_peers(comm->rank() == 1);
  if (comm->rank() != 1) {
    expect_deadline(*comm, "all_reduce_sum #1: no progress for 1.");
    EXPECT_EQ(aborted(), 1);
  }
  world().barrier();
  // The one that comes too late finds nobody: in the call itself, or by the watcher.
  if (comm->rank() == 1) {
    const auto tensor = filled(*comm, 1);
    const std::string message = error_of([&] {
      comm->all_reduce_sum(tensor);
      throw CommError(failure_of(*comm, tensor));
    });
    expect_says(message, own_name() + "all_reduce_sum #1");
    expect_says(message, "remote process exited or there was a network error");
  }
}

TEST_F(NcclFailures, ranks_in_different_collectives_are_noticed_at_the_deadline) {
  const auto comm = on_gpus(kDeadline);
  if (comm->rank() == 1) {
    const std::vector<int64_t> rows(static_cast<size_t>(W()), 1);
    const auto all = comm->all_gather_rows(filled(*comm, 1, 1), rows);
    all.cpu();
    expect_says(failure_of(*comm, all), own_name() + "all_gather_rows #1: no progress for 1.");
  } else {
    expect_deadline(*comm, "all_reduce_sum #1: no progress for 1.");
  }
  EXPECT_EQ(aborted(), 1);
}

TEST_F(NcclFailures, long_work_that_goes_on_is_no_failure) {
  const auto comm = on_gpus(kDeadline);
  const auto tensor = filled(*comm, 1);
  for (int i = 0; i < 4; ++i) {
    cudaLaunchHostFunc(
        current(*comm), [](void*) { std::this_thread::sleep_for(400ms); }, nullptr);
    comm->all_reduce_sum(tensor);
  }
  EXPECT_TRUE(all_are(tensor, std::pow(W(), 4)));
  comm->all_reduce_sum(tensor);
  EXPECT_TRUE(all_are(tensor, std::pow(W(), 5)));
}

TEST_F(NcclFailures, a_bootstrap_that_hangs_ends_at_the_deadline) {
  doubles::stall_bootstrap(world().rank() == 1);
  const auto start = Clock::now();
  expect_says(error_of([] { on_gpus(kDeadline); }),
              own_name() + "ncclCommInitRankConfig: NCCL made no progress for 1.");
  doubles::stall_bootstrap(false);
  EXPECT_LT(seconds_since(start), kAtMost);
  EXPECT_EQ(aborted(), 1);
}

TEST_F(NcclFailures, a_bootstrap_that_fails_on_one_rank_ends_on_all) {
  if (world().rank() == 1) {
    doubles::fail_next("ncclCommInitRankConfig", ncclSystemError);
    expect_says(error_of([] { on_gpus(kDeadline); }),
                own_name() + "ncclCommInitRankConfig failed: unhandled system error");
  } else {
    expect_says(error_of([] { on_gpus(kDeadline); }), own_name() + "ncclCommInitRankConfig: NCCL made no");
  }
}

TEST_F(NcclFailures, a_call_that_fails_names_its_step_and_leaves_no_group_open) {
  const auto comm = on_gpus();
  const auto tensor = filled(*comm, 1);
  comm->all_reduce_sum(tensor);
  doubles::fail_next("ncclAllReduce", ncclInvalidUsage);
  expect_says(error_of([&] { comm->all_reduce_sum(tensor); }),
              own_name() + "all_reduce_sum #2: ncclAllReduce failed: invalid usage");
  std::vector<int64_t> rows(static_cast<size_t>(W()), 1);
  rows[0] = 2;
  doubles::fail_next("ncclBroadcast", ncclInternalError);
  expect_says(error_of([&] { comm->all_gather_rows(filled(*comm, 1, comm->rank() == 0 ? 2 : 1), rows); }),
              own_name() + "all_gather_rows #3: ncclBroadcast failed: internal error");
  comm->all_reduce_sum(tensor);
  EXPECT_TRUE(all_are(tensor, std::pow(W(), 2)));
  EXPECT_EQ(aborted(), 0);
}

TEST_F(NcclFailures, an_error_that_nccl_reports_later_aborts) {
  const auto comm = on_gpus();
  const auto tensor = filled(*comm, 1);
  Gate gate(current(*comm));
  comm->all_reduce_sum(tensor);
  doubles::report_error(ncclInternalError);
  expect_says(failure_of(*comm, tensor), own_name() + "all_reduce_sum #1: internal error (a test asked for it)");
  expect_says(error_of([&] { comm->all_reduce_sum(tensor); }), "all_reduce_sum #1: internal error");
}

TEST_F(NcclFailures, an_error_between_collectives_is_noticed_too) {
  const auto comm = on_gpus();
  const auto tensor = filled(*comm, 1);
  doubles::report_error(ncclRemoteError);
  expect_says(failure_of(*comm, tensor), own_name() + "NCCL: remote process exited");
}

TEST_F(NcclFailures, a_gpu_that_faults_aborts) {
  const auto comm = on_gpus();
  const auto tensor = filled(*comm, 1);
  Gate gate(current(*comm));
  comm->all_reduce_sum(tensor);
  doubles::fail_queries(cudaErrorIllegalAddress);
  expect_says(failure_of(*comm, tensor), own_name() + "all_reduce_sum #1: an illegal memory access");
  doubles::fail_queries(cudaSuccess);
}

TEST_F(NcclFailures, a_sum_under_way_says_what_failed) {
  const auto comm = on_gpus();
  const auto tensor = filled(*comm, 1);
  const auto sum = comm->all_reduce_sum_async(tensor);
  doubles::report_error(ncclSystemError);
  expect_says(failure_of(*comm, tensor), "unhandled system error");
  expect_says(error_of([&] { sum->wait(); }), own_name());
}

TEST_F(NcclFailures, an_end_that_hangs_is_cut_off_at_the_deadline) {
  auto comm = on_gpus(kDeadline);
  doubles::notice_lost_peers(comm->rank() == 1);
  if (comm->rank() != 1) {
    const auto start = Clock::now();
    comm.reset();
    EXPECT_GE(seconds_since(start), kDeadline);
    EXPECT_LT(seconds_since(start), kAtMost);
    EXPECT_EQ(aborted(), 1);
  }
  world().barrier();
  comm.reset();
  EXPECT_EQ(aborted(), 1);
}

}  // namespace
}  // namespace vixen

int main(int argc, char** argv) {
  return vixen::test::run_all(argc, argv, [](const vixen::MpiSession& job) {
    vixen::set_threads(1);
    vixen::select_device(vixen::DeviceKind::kCuda, job.local_rank());
  });
}

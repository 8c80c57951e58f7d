// How the ranks were started, on which hosts, and whether what they send one another arrives.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <numeric>
#include <thread>

#include "bench/collective_bench.hpp"
#include "comm/launcher.hpp"
#include "doctor/checks.hpp"

namespace vixen {
namespace {

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// Differences between the hosts' clocks, less what a message takes.
Finding clock_finding(Communicator& host) {
  double widest = 1e300;
  for (int round = 0; round < 3; ++round) {
    host.barrier();
    const double now = seconds_now();
    widest = std::min(widest, host.max_host(now) + host.max_host(-now));
  }
  const std::string found = fmt::format("within {:.0f} ms of one another", widest * 1e3);
  if (widest < 2) return good("clocks", found);
  return bad("clocks", fmt::format("{:.1f} s apart", widest),
             "logs and file times mislead: run NTP (chronyd) on every node");
}

at::Tensor counted(int64_t rows, int64_t columns, int64_t first, const at::TensorOptions& options) {
  return (at::arange(rows * columns, at::kLong).view({rows, columns}) % 251 + first)
      .to(at::kFloat)
      .to(options.dtype())
      .to(options.device());
}

// Calls every collective of tensors with values that float32 holds exactly. The first that gives others, or "". All are
// called on every rank, whatever one of them gives. Collective.
std::string wrong_collective(Communicator& comm) {
  const int ranks = comm.world_size(), own = comm.rank();
  const auto floats = at::TensorOptions().dtype(at::kFloat).device(comm.device());
  std::vector<int64_t> rows(static_cast<size_t>(ranks));
  std::iota(rows.begin(), rows.end(), 1);  // uneven
  const int64_t all_rows = std::accumulate(rows.begin(), rows.end(), int64_t{0});
  constexpr int64_t kColumns = 33;
  std::string wrong;
  const auto judge = [&](const char* name, const at::Tensor& got, const at::Tensor& want) {
    if (wrong.empty() && !at::equal(got.cpu(), want.cpu())) wrong = name;
  };
  const auto sum_of_ranks = [&](int64_t n) {
    at::Tensor sum = at::zeros({n, kColumns});
    for (int rank = 0; rank < ranks; ++rank) sum += counted(n, kColumns, rank, at::kFloat);
    return sum;
  };

  at::Tensor sum = counted(500, kColumns, own, floats);
  comm.all_reduce_sum(sum);
  judge("all_reduce_sum", sum, sum_of_ranks(500));
  at::Tensor late = counted(500, kColumns, own, floats);
  comm.all_reduce_sum_async(late)->wait();
  judge("all_reduce_sum_async", late, sum_of_ranks(500));

  std::vector<at::Tensor> parts;
  for (int rank = 0; rank < ranks; ++rank) parts.push_back(counted(rank + 1, kColumns, rank, at::kFloat));
  judge("all_gather_rows", comm.all_gather_rows(counted(own + 1, kColumns, own, floats), rows), at::cat(parts));
  judge("reduce_scatter_rows", comm.reduce_scatter_rows(counted(all_rows, kColumns, own, floats), rows),
        sum_of_ranks(all_rows).narrow(0, static_cast<int64_t>(own) * (own + 1) / 2, own + 1));

  // Rank r sends its number to every rank, r + 1 times.
  const std::vector<int64_t> send(static_cast<size_t>(ranks), own + 1);
  parts.clear();
  for (int rank = 0; rank < ranks; ++rank) parts.push_back(at::full({rank + 1, 3}, rank, at::kFloat));
  judge("all_to_all_rows", comm.all_to_all_rows(at::full({ranks * (own + 1), 3}, own, floats), send, rows),
        at::cat(parts));

  at::Tensor copied = counted(7, kColumns, own, floats);
  comm.broadcast(copied, ranks - 1);
  judge("broadcast", copied, counted(7, kColumns, ranks - 1, at::kFloat));
  return wrong;
}

void judge_collectives(Communicator& comm, const std::string& name, Findings& findings) {
  const std::string wrong = wrong_collective(comm);
  if (!wrong.empty()) {
    findings.push_back(bad(name, fmt::format("{} gives wrong values", wrong),
                           "no training on these nodes: tell the site's support, with this table"));
  }
  if (comm.max_host(wrong.empty() ? int64_t{0} : int64_t{1}) != 0) return;
  if (comm.world_size() == 1) {
    findings.push_back(good(name, "right, one rank alone"));
    return;
  }
  constexpr int64_t kElements = 8 << 20;
  const auto times = bench_collectives(comm, kElements);
  const double slowest = comm.max_host(times.all_reduce_seconds);
  // What every rank sends and receives of a ring: 2 (W - 1) / W of the data.
  const double share = 2.0 * (comm.world_size() - 1) / comm.world_size();
  findings.push_back(
      good(name, fmt::format("right; all-reduce of {:.0f} MB in {:.1f} ms ({:.2f} GB/s of bus bandwidth)",
                             kElements * 4e-6, slowest * 1e3, share * kElements * 4 / slowest / 1e9)));
}

}  // namespace

Findings check_ranks(Patient& patient) {
  auto& session = patient.session;
  Findings findings;
  std::map<std::string, int> ranks_of_host;
  for (const auto& host : patient.host.all_gather_host(session.host())) ++ranks_of_host[host];
  const auto nodes = patient.host.nodes();
  const int n_nodes = *std::max_element(nodes.begin(), nodes.end()) + 1;
  findings.push_back(
      good("job", fmt::format("{} rank{} on {} node{}, {}", session.world_size(), session.world_size() == 1 ? "" : "s",
                              n_nodes, n_nodes == 1 ? "" : "s",
                              has_launcher(process_environment) ? "started by a launcher" : "started alone")));
  if (static_cast<int>(ranks_of_host.size()) < n_nodes)
    findings.push_back(note("host names", fmt::format("{} names for {} nodes", ranks_of_host.size(), n_nodes),
                            "messages and run locks name nodes by them: give each its own"));
  std::vector<int> sizes;
  for (const auto& [host, ranks] : ranks_of_host) sizes.push_back(ranks);
  if (const auto [least, most] = std::minmax_element(sizes.begin(), sizes.end()); *least != *most)
    findings.push_back(
        note("ranks a node", fmt::format("from {} to {}", *least, *most),
             "every rank gets as much of a batch and of the labels: deal them evenly to nodes (--ntasks-per-node)"));
  findings.push_back(clock_finding(patient.host));
  return findings;
}

Findings check_collectives(Patient& patient) {
  Findings findings;
  judge_collectives(patient.host, "MPI", findings);
  if (patient.gpus)
    judge_collectives(*patient.gpus, "NCCL", findings);
  else
    findings.push_back(skipped("NCCL", "no GPU communicator"));
  return findings;
}

}  // namespace vixen

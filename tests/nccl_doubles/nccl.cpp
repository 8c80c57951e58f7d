// The functions of libnccl that vixen calls, over communicator.hpp. Ranks are processes of one machine.
#include <nccl.h>

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "nccl_doubles/communicator.hpp"
#include "nccl_doubles/control.hpp"
#include "nccl_doubles/sums.hpp"

struct ncclComm {
  std::shared_ptr<vixen::doubles::Rank> rank;
};

namespace vixen::doubles {
namespace {

struct Communicators {
  std::mutex mutex;
  std::set<ncclComm_t> alive;
};

Communicators& communicators() {
  static auto* all = new Communicators;
  return *all;
}

// The calls of a group, until it ends.
struct Group {
  int depth = 0;
  ncclResult_t failed = ncclSuccess;
  std::vector<std::pair<ncclComm_t, Call>> calls;
};
thread_local Group group;

ncclResult_t end_group() {
  if (--group.depth > 0) return ncclSuccess;
  const Group all = std::exchange(group, {});
  if (all.failed != ncclSuccess) return all.failed;
  if (all.calls.empty()) return ncclSuccess;
  std::vector<Call> calls;
  for (const auto& [comm, call] : all.calls) {
    if (comm != all.calls[0].first || call.stream != all.calls[0].second.stream) return ncclInvalidUsage;
    calls.push_back(call);
  }
  ++control().groups;
  control().grouped_calls += static_cast<int>(calls.size());
  all.calls[0].first->rank->launch(std::move(calls));
  return ncclInProgress;
}

ncclResult_t add_call(const char* name, ncclComm_t comm, const Call& call) {
  ++group.depth;
  ncclResult_t code = control().fault_of(name);
  if (code == ncclSuccess &&
      (bytes_of(call.type) == 0 || call.peer < 0 || call.peer >= comm->rank->world_size() || call.elements == 0))
    code = ncclInvalidArgument;
  if (code != ncclSuccess)
    group.failed = code;
  else
    group.calls.emplace_back(comm, call);
  const ncclResult_t end = end_group();
  return code != ncclSuccess ? code : end;
}

const char* bytes(const void* address) {
  return static_cast<const char*>(address);
}

void forget(ncclComm_t comm) {
  {
    const std::lock_guard lock(communicators().mutex);
    communicators().alive.erase(comm);
  }
  delete comm;
}

}  // namespace

void report_error(ncclResult_t code) {
  const std::lock_guard lock(communicators().mutex);
  for (const ncclComm_t comm : communicators().alive) comm->rank->fail(code, "a test asked for it");
}

}  // namespace vixen::doubles

using namespace vixen::doubles;

extern "C" {

ncclResult_t ncclGetVersion(int* version) {
  *version = NCCL_VERSION_CODE;
  return ncclSuccess;
}

const char* ncclGetErrorString(ncclResult_t code) {
  switch (code) {
    case ncclSuccess:
      return "no error";
    case ncclUnhandledCudaError:
      return "unhandled cuda error";
    case ncclSystemError:
      return "unhandled system error";
    case ncclInternalError:
      return "internal error";
    case ncclInvalidArgument:
      return "invalid argument";
    case ncclInvalidUsage:
      return "invalid usage";
    case ncclRemoteError:
      return "remote process exited or there was a network error";
    case ncclInProgress:
      return "NCCL operation in progress";
    default:
      return "unknown result code";
  }
}

const char* ncclGetLastError(ncclComm_t comm) {
  thread_local std::string text;
  text = comm != nullptr ? comm->rank->last_error() : "";
  return text.c_str();
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  if (const ncclResult_t code = control().fault_of("ncclGetUniqueId"); code != ncclSuccess) return code;
  std::random_device random;
  std::snprintf(id->internal, sizeof(id->internal), "vixen-nccl-double-%d-%08x%08x", static_cast<int>(::getpid()),
                random(), random());
  return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int world_size, ncclUniqueId id, int rank, ncclConfig_t* config) {
  *comm = nullptr;
  if (const ncclResult_t code = control().fault_of("ncclCommInitRankConfig"); code != ncclSuccess) return code;
  if (config->blocking != 0) return ncclInvalidArgument;  // a double does not wait
  *comm = new ncclComm{std::make_shared<Rank>(id.internal, rank, world_size)};
  (*comm)->rank->begin();
  ++control().made;
  const std::lock_guard lock(communicators().mutex);
  communicators().alive.insert(*comm);
  return ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* state) {
  if (const ncclResult_t code = control().fault_of("ncclCommGetAsyncError"); code != ncclSuccess) return code;
  *state = comm->rank->state();
  return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  if (const ncclResult_t code = control().fault_of("ncclCommFinalize"); code != ncclSuccess) return code;
  ++control().finalized;
  comm->rank->finalize();
  return ncclInProgress;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  ++control().destroyed;
  comm->rank->abort();  // nothing is under way once it is finalised
  forget(comm);
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
  ++control().aborted;
  comm->rank->abort();
  forget(comm);
  return ncclSuccess;
}

ncclResult_t ncclGroupStart() {
  ++group.depth;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
  return group.depth > 0 ? end_group() : ncclInvalidUsage;
}

ncclResult_t ncclAllReduce(const void* send, void* receive, size_t count, ncclDataType_t type, ncclRedOp_t op,
                           ncclComm_t comm, cudaStream_t stream) {
  if (op != ncclSum) return ncclInvalidArgument;
  return add_call("ncclAllReduce", comm,
                  {Kind::kAllReduce, bytes(send), static_cast<char*>(receive), count, type, 0, stream});
}

ncclResult_t ncclAllGather(const void* send, void* receive, size_t count, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t stream) {
  return add_call("ncclAllGather", comm,
                  {Kind::kAllGather, bytes(send), static_cast<char*>(receive), count, type, 0, stream});
}

ncclResult_t ncclReduceScatter(const void* send, void* receive, size_t count, ncclDataType_t type, ncclRedOp_t op,
                               ncclComm_t comm, cudaStream_t stream) {
  if (op != ncclSum) return ncclInvalidArgument;
  return add_call("ncclReduceScatter", comm,
                  {Kind::kReduceScatter, bytes(send), static_cast<char*>(receive), count, type, 0, stream});
}

ncclResult_t ncclBroadcast(const void* send, void* receive, size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
  return add_call("ncclBroadcast", comm,
                  {Kind::kBroadcast, bytes(send), static_cast<char*>(receive), count, type, root, stream});
}

ncclResult_t ncclReduce(const void* send, void* receive, size_t count, ncclDataType_t type, ncclRedOp_t op, int root,
                        ncclComm_t comm, cudaStream_t stream) {
  if (op != ncclSum) return ncclInvalidArgument;
  return add_call("ncclReduce", comm,
                  {Kind::kReduce, bytes(send), static_cast<char*>(receive), count, type, root, stream});
}

ncclResult_t ncclSend(const void* send, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return add_call("ncclSend", comm, {Kind::kPointToPoint, bytes(send), nullptr, count, type, peer, stream});
}

ncclResult_t ncclRecv(void* receive, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return add_call("ncclRecv", comm,
                  {Kind::kPointToPoint, nullptr, static_cast<char*>(receive), count, type, peer, stream});
}

}  // extern "C"

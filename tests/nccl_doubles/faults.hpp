// What tests ask of the doubles of libnccl and the CUDA runtime: that something goes wrong in this process, and what
// was done about it. Jobs of which a rank dies ask by the environment (VIXEN_DOUBLE_DIES, see below).
#pragma once

#include <cuda_runtime_api.h>
#include <nccl.h>

#include <string>

namespace vixen::doubles {

/// The next call of this name ("ncclAllReduce", "ncclCommInitRankConfig") fails with `code`.
void fail_next(const std::string& call, ncclResult_t code);
/// Communicators that are there report this error from now on, as NCCL does of what went wrong after a call.
void report_error(ncclResult_t code);
/// Communicators that are made from now on never come up on this rank, which connects to nobody.
void stall_bootstrap(bool stalled);
/// Whether a peer that is gone is reported (as over a network), or leaves its collective hanging (as over shared
/// memory).
void notice_lost_peers(bool noticed);
/// Queries of events fail with `code` until it is cudaSuccess again, as after a kernel's fault.
void fail_queries(cudaError_t code);

/// Since the start of the process.
struct Counts {
  int made = 0, aborted = 0, finalized = 0, destroyed = 0;  // communicators
  int groups = 0;                                           // of calls, outermost
  int grouped_calls = 0;
};
Counts counts();

}  // namespace vixen::doubles

// VIXEN_DOUBLE_DIES=RANK:WHERE:SIGNAL takes a rank down by a signal (9, or 19 to stop it, alive and silent). WHERE is
// "bootstrap": when it has met some of its peers; or a number n: half way through the bytes of the n-th group, from 1.
// VIXEN_DOUBLE_LOST_PEERS=unnoticed is notice_lost_peers(false). VIXEN_DOUBLE_GPUS=n: so many on the node, else 8.

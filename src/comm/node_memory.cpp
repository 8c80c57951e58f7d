// POSIX shared memory by the first rank of a node, mapped by the others, without a name as soon as all have it: a job
// that is killed leaves nothing behind.
#include "comm/node_memory.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <numeric>

#include "base/check.hpp"
#include "base/log.hpp"

namespace vixen {
namespace {

std::shared_ptr<std::byte> map(int file, int64_t bytes, int protection) {
  void* address = mmap(nullptr, static_cast<size_t>(bytes), protection, MAP_SHARED, file, 0);
  if (address == MAP_FAILED) return nullptr;
  return {static_cast<std::byte*>(address),
          [bytes](std::byte* data) { munmap(static_cast<void*>(data), static_cast<size_t>(bytes)); }};
}

// A name that no other object of this machine has.
std::string fresh_name() {
  static std::atomic<int> made = 0;
  return fmt::format("/vixen-{}-{}", getpid(), made++);
}

struct Shared {
  std::string name;  // empty: there is no room
  std::shared_ptr<std::byte> data;
};

Shared create(int64_t bytes) {
  Shared made{fresh_name(), nullptr};
  const int file = shm_open(made.name.c_str(), O_CREAT | O_EXCL | O_RDWR, 0600);
  if (file < 0) return {};
  // Allocated, not only sized: a full device is an answer here and would be a signal later.
  if (posix_fallocate(file, 0, bytes) == 0) made.data = map(file, bytes, PROT_READ | PROT_WRITE);
  close(file);
  if (made.data) return made;
  shm_unlink(made.name.c_str());
  return {};
}

std::shared_ptr<std::byte> open_shared(const std::string& name, int64_t bytes) {
  const int file = shm_open(name.c_str(), O_RDONLY, 0);
  if (file < 0) return nullptr;
  auto data = map(file, bytes, PROT_READ);
  close(file);
  return data;
}

}  // namespace

NodeMemory::NodeMemory(int64_t bytes, Communicator& comm) {
  VIXEN_CHECK(bytes >= 0, "{} bytes", bytes);
  if (bytes >= kLeastShared) share(bytes, comm);
  if (data_) return;
  writers_.resize(static_cast<size_t>(comm.world_size()));
  std::iota(writers_.begin(), writers_.end(), 0);
  data_ = {new std::byte[static_cast<size_t>(bytes)](), std::default_delete<std::byte[]>()};
}

void NodeMemory::share(int64_t bytes, Communicator& comm) {
  const auto nodes = ranks_by_node(comm);
  if (std::ssize(nodes) == comm.world_size()) return;  // every rank has a node of its own
  const int first = nodes[static_cast<size_t>(comm.nodes()[static_cast<size_t>(comm.rank())])].front();
  const bool leads = first == comm.rank();
  Shared own = leads ? create(bytes) : Shared{};
  const auto names = comm.all_gather_host(own.name);
  if (!leads && !names[static_cast<size_t>(first)].empty())
    own.data = open_shared(names[static_cast<size_t>(first)], bytes);
  const int64_t without = comm.sum_host(static_cast<int64_t>(own.data == nullptr));
  if (leads && !own.name.empty()) shm_unlink(own.name.c_str());
  if (without > 0) {
    if (comm.rank() == 0)
      spdlog::warn(
          "{:.1f} MB that the ranks of a node could share are kept by every rank: {} ranks cannot have them in shared "
          "memory (/dev/shm: is there room, is it one for all ranks of a node?)",
          static_cast<double>(bytes) / 1e6, without);
    return;
  }
  data_ = std::move(own.data);
  writes_ = leads;
  for (const auto& ranks : nodes) writers_.push_back(ranks.front());
}

}  // namespace vixen

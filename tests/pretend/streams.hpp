// The order of work on the pretend device: streams, events, and what each has seen.
//
// Every stream and the host have a clock of all streams: how far in each of them the work goes that theirs comes after.
// Work of a stream is a tick of its clock; an event carries a clock from one stream to another, or to the host; and
// work that the host enqueues comes after what the host has waited for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace vixen::pretend {

/// A moment of a stream.
struct Stamp {
  int stream = 0;
  uint64_t tick = 0;
};

/// Bytes [begin, end) of a block that were read or written, when and by what.
struct Touch {
  size_t begin = 0, end = 0;
  Stamp when;
  std::string by;
};

/// The uses of one block of device memory that are still to be ordered with.
struct Use {
  int made_on = 0;  // the stream whose work may reuse the memory once it is freed
  std::vector<Touch> writes, reads;
  std::vector<int> recorded;  // streams that the allocator knows of: record_stream
};

/// What a launch touches of a block.
struct Access {
  Use* use = nullptr;
  size_t begin = 0, end = 0;
  int64_t bytes = 0;  // of what is used between them
};

/// Of this thread.
int current_stream();

/// A block that was allocated for the current stream.
Use new_use();

/// Work on the current stream; its moment. Faults where it is not ordered with what it uses.
Stamp launch_on_current(const std::string& name, const std::vector<Access>& reads, const std::vector<Access>& writes);

/// The block is freed: a fault where another stream may still use it.
void check_freed(const Use& use);

/// Whether the host has waited for that moment, and whether the current stream comes after it.
bool host_knows(const Stamp& stamp);
bool current_follows(const Stamp& stamp);

/// The host waits for all work of a stream, because of `reason`: counted, and a fault in a step.
void wait_for_stream(int stream, const std::string& reason);

}  // namespace vixen::pretend

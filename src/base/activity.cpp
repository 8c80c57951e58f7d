// The activity of a process: entries with a begin, under a lock that is held for some copies of short texts.
#include "base/activity.hpp"

#include <algorithm>
#include <chrono>
#include <exception>
#include <mutex>
#include <vector>

namespace vixen {
namespace {

using Clock = std::chrono::steady_clock;

struct Entry {
  int64_t ticket;
  std::string text;
  Clock::time_point begin;

  double seconds() const { return std::chrono::duration<double>(Clock::now() - begin).count(); }
};

// What began first stands first.
struct Entries {
  std::vector<Entry> works, files, collectives;
  int64_t step = -1, tickets = 0;
  std::mutex mutex;

  int64_t begin(std::vector<Entry>& list, const std::string& text) {
    const std::lock_guard lock(mutex);
    list.push_back({++tickets, text, Clock::now()});
    return tickets;
  }
  void end(std::vector<Entry>& list, int64_t ticket) {
    const std::lock_guard lock(mutex);
    std::erase_if(list, [&](const Entry& entry) { return entry.ticket == ticket; });
  }
};

Entries& entries() {
  static Entries& all = *new Entries;  // threads that nobody joins may outlive what is static
  return all;
}

thread_local bool t_waited_for = true;

}  // namespace

Activity current_activity() {
  auto& all = entries();
  const std::lock_guard lock(all.mutex);
  Activity activity;
  activity.step = all.step;
  if (!all.works.empty()) activity.work = all.works.back().text;
  if (!all.files.empty()) {
    activity.file = all.files.front().text;
    activity.file_seconds = all.files.front().seconds();
  }
  if (!all.collectives.empty()) {
    activity.collective = all.collectives.front().text;
    activity.collective_seconds = all.collectives.front().seconds();
  }
  return activity;
}

void set_activity_step(int64_t step) {
  auto& all = entries();
  const std::lock_guard lock(all.mutex);
  all.step = step;
}

void nobody_waits_for_files_of_this_thread() {
  t_waited_for = false;
}

Doing::Doing(const std::string& work) : ticket_(entries().begin(entries().works, work)) {}
Doing::~Doing() {
  entries().end(entries().works, ticket_);
}

AtFile::AtFile(const std::string& path) : ticket_(t_waited_for ? entries().begin(entries().files, path) : 0) {}
AtFile::~AtFile() {
  if (ticket_ != 0) entries().end(entries().files, ticket_);
}

InCollective::InCollective(const std::string& name) : ticket_(entries().begin(entries().collectives, name)) {}
InCollective::~InCollective() {
  if (std::uncaught_exceptions() == 0) entries().end(entries().collectives, ticket_);
}

}  // namespace vixen

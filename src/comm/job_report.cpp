// The text of a job's end.
#include "comm/job_report.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <vector>

namespace vixen {
namespace {

// Ranks that do the same.
struct Group {
  std::string what;
  double seconds;  // the most of theirs; 0: not said
  std::vector<int> ranks;
};

Group group_of(const Standing& standing, double silent_limit) {
  const Activity& activity = standing.activity;
  const std::string step = activity.step < 0 ? "" : fmt::format(" of step {}", activity.step);
  if (standing.gone) return {"gone", 0, {}};
  if (standing.silent_seconds >= silent_limit) return {"silent", standing.silent_seconds, {}};
  if (!activity.collective.empty())
    return {fmt::format("in {}{}", activity.collective, step), activity.collective_seconds, {}};
  if (!activity.file.empty()) return {"at the file " + activity.file, activity.file_seconds, {}};
  if (!activity.work.empty()) return {fmt::format("at work: {}{}", activity.work, step), 0, {}};
  return {"at work" + step, 0, {}};
}

// "0, 2-5, 9"
std::string list_of(const std::vector<int>& ranks) {
  std::vector<std::string> parts;
  for (size_t i = 0; i < ranks.size();) {
    size_t end = i + 1;
    while (end < ranks.size() && ranks[end] == ranks[end - 1] + 1) ++end;
    if (end - i > 2) {
      parts.push_back(fmt::format("{}-{}", ranks[i], ranks[end - 1]));
    } else {
      for (size_t j = i; j < end; ++j) parts.push_back(fmt::format("{}", ranks[j]));
    }
    i = end;
  }
  return fmt::format("{}", fmt::join(parts, ", "));
}

}  // namespace

std::string name_of(std::span<const Standing> ranks, int rank) {
  const Standing& standing = ranks[static_cast<size_t>(rank)];
  const std::string step = standing.activity.step < 0 ? "" : fmt::format(", step {}", standing.activity.step);
  return fmt::format("rank {} on {}{}", rank, standing.host, step);
}

std::string failure_text(std::span<const Standing> ranks, int rank, const std::string& reason, int exit_code,
                         double silent_limit, bool meanwhile) {
  std::string text = fmt::format("{}: {}", name_of(ranks, rank), reason);
  std::vector<Group> groups;
  for (int other = 0; meanwhile && other < std::ssize(ranks); ++other) {
    const Standing& standing = ranks[static_cast<size_t>(other)];
    if (other == rank || !standing.known) continue;
    const Group own = group_of(standing, silent_limit);
    const auto same = std::find_if(groups.begin(), groups.end(), [&](const Group& g) { return g.what == own.what; });
    Group& group = same == groups.end() ? groups.emplace_back(own) : *same;
    group.seconds = std::max(group.seconds, own.seconds);
    group.ranks.push_back(other);
  }
  for (const Group& group : groups) {
    const bool alone = group.ranks.size() == 1;
    text +=
        fmt::format("{}rank{} {}{} {}{}", &group == groups.data() ? "; meanwhile " : ", ", alone ? "" : "s",
                    list_of(group.ranks), alone ? " on " + ranks[static_cast<size_t>(group.ranks.front())].host : "",
                    group.what, group.seconds > 0 ? fmt::format(" for {:.0f} s", group.seconds) : "");
  }
  return text + fmt::format("; ending the job ({} rank{}, exit code {})", ranks.size(), ranks.size() == 1 ? "" : "s",
                            exit_code);
}

}  // namespace vixen

#include "doctor/report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

#include "device/cpu_share.hpp"

namespace vixen {

std::vector<MergedFinding> merge_findings(const std::vector<RankFindings>& by_rank) {
  std::vector<MergedFinding> merged;
  const auto key = [](const Finding& finding) {
    return std::tie(finding.what, finding.health, finding.found, finding.advice);
  };
  for (int rank = 0; rank < static_cast<int>(by_rank.size()); ++rank) {
    const auto& own = by_rank[static_cast<size_t>(rank)];
    for (const Finding& finding : own.findings) {
      auto same = std::find_if(merged.begin(), merged.end(),
                               [&](const MergedFinding& other) { return key(other.finding) == key(finding); });
      if (same == merged.end()) {
        // Beside what other ranks found about the same thing.
        auto behind = std::find_if(merged.rbegin(), merged.rend(), [&](const MergedFinding& other) {
                        return other.finding.what == finding.what;
                      }).base();
        if (behind == merged.begin()) behind = merged.end();
        same = merged.insert(behind, {finding, {}, {}});
      }
      if (same->ranks.empty() || same->ranks.back() != rank) same->ranks.push_back(rank);
      if (std::find(same->hosts.begin(), same->hosts.end(), own.host) == same->hosts.end())
        same->hosts.push_back(own.host);
    }
  }
  return merged;
}

std::string ranks_text(const std::vector<int>& ranks, int world_size) {
  if (static_cast<int>(ranks.size()) == world_size) return {};
  return fmt::format("rank{} {}", ranks.size() == 1 ? "" : "s", cpu_list_text(ranks));
}

std::string finding_text(const MergedFinding& merged, int world_size) {
  const auto& finding = merged.finding;
  const std::string who = ranks_text(merged.ranks, world_size);
  std::string text = fmt::format("  {:<8} {:<28} {}{}\n", name_of(finding.health), finding.what,
                                 who.empty() ? "" : who + ": ", finding.found);
  if (!finding.advice.empty()) text += fmt::format("  {:<8} {:<28} -> {}\n", "", "", finding.advice);
  return text;
}

nlohmann::ordered_json finding_json(const MergedFinding& merged) {
  return {{"what", merged.finding.what},   {"health", name_of(merged.finding.health)},
          {"found", merged.finding.found}, {"advice", merged.finding.advice},
          {"ranks", merged.ranks},         {"hosts", merged.hosts}};
}

std::string to_bytes(const RankFindings& findings) {
  auto lines = nlohmann::json::array();
  for (const Finding& one : findings.findings)
    lines.push_back({one.what, static_cast<int>(one.health), one.found, one.advice});
  return nlohmann::json{findings.host, lines}.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

RankFindings from_bytes(const std::string& bytes) {
  const auto parsed = nlohmann::json::parse(bytes);
  RankFindings findings{parsed.at(0), {}};
  for (const auto& line : parsed.at(1))
    findings.findings.push_back({line.at(0), static_cast<Health>(line.at(1).get<int>()), line.at(2), line.at(3)});
  return findings;
}

}  // namespace vixen

// The findings of all ranks as one table: what several ranks say alike is one line.
#pragma once

#include <nlohmann/json.hpp>

#include <string>
#include <vector>

#include "doctor/finding.hpp"

namespace vixen {

/// The findings of one part of the table on one rank.
struct RankFindings {
  std::string host;
  Findings findings;
};

struct MergedFinding {
  Finding finding;
  std::vector<int> ranks;          // that found it, ascending
  std::vector<std::string> hosts;  // of those, each once
};

/// by_rank: of every rank. Lines in the order in which the lowest rank has them; equal ones are one.
std::vector<MergedFinding> merge_findings(const std::vector<RankFindings>& by_rank);

/// "ranks 0-3, 6 of 8", empty for all of them or a single rank.
std::string ranks_text(const std::vector<int>& ranks, int world_size);

/// One line of a part, with its advice on a line of its own.
std::string finding_text(const MergedFinding& merged, int world_size);

nlohmann::ordered_json finding_json(const MergedFinding& merged);

/// For the way between ranks.
std::string to_bytes(const RankFindings& findings);
RankFindings from_bytes(const std::string& bytes);

}  // namespace vixen

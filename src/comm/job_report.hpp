// What a job says when it ends because of a fault: who, where, when, why, and what the other ranks waited in.
#pragma once

#include <span>
#include <string>

#include "base/activity.hpp"

namespace vixen {

/// What is known of a rank.
struct Standing {
  std::string host;
  Activity activity;          // as it said last
  double silent_seconds = 0;  // since it said so
  bool gone = false;          // its process is no more
  bool known = true;          // whether it has said anything here
};

/// "rank 1 on n2, step 57". ranks [W]: of the job.
std::string name_of(std::span<const Standing> ranks, int rank);

/// One line: "rank 1 on n2, step 57: REASON; meanwhile ranks 0, 2 in all_reduce_sum #812 for 60 s; ending the job (3
/// ranks, exit code 1)". ranks [W]: those that said nothing for silent_limit seconds are said to be silent. With
/// `meanwhile` false the others are left out.
std::string failure_text(std::span<const Standing> ranks, int rank, const std::string& reason, int exit_code,
                         double silent_limit, bool meanwhile);

}  // namespace vixen

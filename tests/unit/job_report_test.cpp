// The line that a job ends with.
#include "comm/job_report.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace vixen {
namespace {

Standing in_collective(const std::string& host, double seconds) {
  return {host, {57, "", "", 0, "all_reduce_sum #812", seconds}, 0.4, false};
}

TEST(JobReport, NamesRankHostStepReasonAndWhatTheOthersDo) {
  std::vector<Standing> ranks = {in_collective("n1", 60.2),
                                 {"n1", {56, "", "", 0, "", 0}, 0.4, false},
                                 in_collective("n2", 58),
                                 in_collective("n2", 59),
                                 in_collective("n3", 59)};
  ranks.push_back({"n3", {-1, "", "/scratch/a.h5", 12.4, "", 0}, 0.4, false});
  ranks.push_back({"n4", {57, "encode labels", "", 0, "", 0}, 0.4, false});
  ranks.push_back({"n4", {57, "", "", 0, "", 0}, 33.0, false});
  EXPECT_EQ(
      failure_text(ranks, 1, "out of memory", 1, /*silent_limit=*/3, true),
      "rank 1 on n1, step 56: out of memory; meanwhile ranks 0, 2-4 in all_reduce_sum #812 of step 57 for 60 s, rank 5 "
      "on n3 at the file /scratch/a.h5 for 12 s, rank 6 on n4 at work: encode labels of step 57, rank 7 on n4 silent "
      "for 33 s; ending the job (8 ranks, exit code 1)");
}

TEST(JobReport, AMistakeIsNoMatterOfTheOthers) {
  const std::vector<Standing> ranks = {{"n1", {}, 0, false}, {"n2", {}, 0, false}};
  EXPECT_EQ(failure_text(ranks, 1, "no such file", 2, 3, false),
            "rank 1 on n2: no such file; ending the job (2 ranks, exit code 2)");
}

TEST(JobReport, WhoIsGoneIsGoneWhateverItDidLast) {
  std::vector<Standing> ranks(3, in_collective("n1", 2));
  ranks[2].gone = true;
  ranks[2].silent_seconds = 9;
  EXPECT_EQ(failure_text(ranks, 0, "why", 1, 3, true),
            "rank 0 on n1, step 57: why; meanwhile rank 1 on n1 in all_reduce_sum #812 of step 57 for 2 s, rank 2 on "
            "n1 gone; "
            "ending the job (3 ranks, exit code 1)");
}

}  // namespace
}  // namespace vixen

// What `vixen doctor` makes of facts: GPUs, memory, CPUs; how findings of ranks become one table.
#include <gtest/gtest.h>

#include "doctor/gpu_judgement.hpp"
#include "doctor/machine_facts.hpp"
#include "doctor/report.hpp"

namespace vixen {
namespace {

GpuFacts sound_gpu(int index = 0) {
  GpuFacts gpu;
  gpu.index = index;
  gpu.name = "NVIDIA H100 80GB HBM3";
  gpu.major = 9;
  gpu.total_bytes = 85'000'000'000;
  gpu.free_bytes = 84'500'000'000;
  gpu.numa_node = 0;
  gpu.ecc = true;
  gpu.uncorrected_errors = 0;
  gpu.mig = false;
  gpu.clock_mhz = 1980;
  gpu.most_clock_mhz = 1980;
  gpu.slowed = false;
  return gpu;
}

// The one finding that is not good, "" where all are.
std::string trouble_of(const Findings& findings) {
  std::string text;
  for (const Finding& finding : findings) {
    EXPECT_FALSE(finding.what.empty() || finding.found.empty());
    if (finding.health == Health::kGood) {
      EXPECT_TRUE(finding.advice.empty()) << finding.what;
      continue;
    }
    EXPECT_FALSE(finding.advice.empty()) << finding.what << ": what is to be done?";
    text +=
        (text.empty() ? "" : "; ") + std::string(name_of(finding.health)) + " " + finding.what + ": " + finding.found;
  }
  return text;
}

TEST(Doctor, JudgesAGpuByItsFacts) {
  EXPECT_EQ(trouble_of(judge_gpu(sound_gpu(), 0)), "");
  struct Case {
    void (*change)(GpuFacts& gpu);
    const char* expected;
  };
  for (const auto& [change, expected] : {
           Case{[](GpuFacts& gpu) { gpu.major = 7; }, "WRONG GPU 0: NVIDIA H100 80GB HBM3, compute capability 7.0"},
           Case{[](GpuFacts& gpu) { gpu.free_bytes = 40'000'000'000; }, "40.0 of 85.0 GB free"},
           Case{[](GpuFacts& gpu) { gpu.uncorrected_errors = 2; }, "WRONG GPU 0 memory: 2 uncorrected errors"},
           Case{[](GpuFacts& gpu) { gpu.ecc = false; }, "note GPU 0 memory: error correction is off"},
           Case{[](GpuFacts& gpu) { gpu.mig = true; }, "note GPU 0 MIG"},
           Case{[](GpuFacts& gpu) { gpu.slowed = true; }, "WRONG GPU 0 clocks: slowed down to 1980 of 1980 MHz"},
           Case{[](GpuFacts& gpu) { gpu.numa_node = 1; }, "note GPU 0 place: on NUMA node 1, its rank's CPUs on 0"},
       }) {
    auto gpu = sound_gpu();
    change(gpu);
    const std::string trouble = trouble_of(judge_gpu(gpu, 0));
    EXPECT_NE(trouble.find(expected), trouble.npos) << trouble;
    EXPECT_EQ(trouble.find(';'), trouble.npos) << "one finding: " << trouble;
  }
  GpuFacts untold = sound_gpu();  // without the management library
  untold.ecc = {};
  untold.uncorrected_errors = {};
  untold.mig = {};
  untold.clock_mhz = untold.most_clock_mhz = {};
  untold.slowed = {};
  EXPECT_EQ(judge_gpu(untold, -1).size(), 1U);
}

TEST(Doctor, JudgesTheGpusOfANodeTogether) {
  std::vector<GpuFacts> two{sound_gpu(0), sound_gpu(1)};
  two[0].peers = {1};
  two[1].peers = {0};
  const CudaVersions cuda{"13.1", "13.0"};
  EXPECT_EQ(trouble_of(judge_node(two, 2, cuda)), "");
  EXPECT_NE(trouble_of(judge_node(two, 3, cuda)).find("WRONG GPUs of the node: 2 for 3 ranks"), std::string::npos);
  EXPECT_NE(trouble_of(judge_node(two, 1, cuda)).find("note GPUs of the node: 2 for 1 rank"), std::string::npos);
  EXPECT_NE(trouble_of(judge_node(two, 2, {"12.8", "13.0"})).find("WRONG driver"), std::string::npos);
  two[1].peers = {};
  EXPECT_NE(trouble_of(judge_node(two, 2, cuda)).find("note between GPUs"), std::string::npos);
  two[1].peers = {0};
  two[1].name = "NVIDIA A100";
  EXPECT_NE(trouble_of(judge_node(two, 2, cuda)).find("note kinds of GPU"), std::string::npos);
}

TEST(Doctor, ARankUsesTheOnlyGpuItSees) {
  EXPECT_EQ(gpu_of_rank(0, 1), 0);
  EXPECT_EQ(gpu_of_rank(5, 1), 0) << "--gpus-per-task";
  EXPECT_EQ(gpu_of_rank(5, 8), 5);
  EXPECT_EQ(gpu_of_rank(5, 4), 5) << "too few: the caller says so";
}

TEST(Doctor, ReadsWhatTheKernelSays) {
  const auto amd = parse_cpu_facts(
      "processor\t: 0\nmodel name\t: AMD EPYC 9554\nflags\t\t: fpu avx2 avx512_bf16\n\nprocessor : 1\n");
  EXPECT_EQ(amd.model, "AMD EPYC 9554");
  EXPECT_TRUE(amd.bf16_products);
  EXPECT_FALSE(parse_cpu_facts("model name : X\nflags : avx512f avx512_bf16x\n").bf16_products);
  EXPECT_TRUE(parse_cpu_facts("Features : fp asimd bf16\n").bf16_products);
  EXPECT_FALSE(parse_cpu_facts("").model.empty()) << "the architecture";
  const std::string text = "MemTotal:       1000 kB\nMemFree:  1 kB\nMemAvailable:    800 kB\n";
  const auto free = parse_memory_facts(text, 0, 0);
  EXPECT_EQ(free.total_bytes, 1'024'000);
  EXPECT_EQ(free.available_bytes, 819'200);
  EXPECT_EQ(free.group_limit_bytes, 0);
  const auto held = parse_memory_facts(text, 500'000, 100'000);
  EXPECT_EQ(held.group_limit_bytes, 500'000);
  EXPECT_EQ(held.available_bytes, 400'000);
  EXPECT_EQ(parse_memory_facts(text, 500'000, 600'000).available_bytes, 0);
  EXPECT_EQ(parse_memory_facts(text, 2'000'000, 1).group_limit_bytes, 0) << "more than there is";
}

TEST(Doctor, WhatRanksSayAlikeIsOneLine) {
  const Finding same = good("memory", "9 GB"), slow = bad("rate", "1 GB/s", "look"), fast = good("rate", "5 GB/s");
  std::vector<RankFindings> all{
      {"a", {same, fast}}, {"a", {same, slow}}, {"b", {same, fast, note("only here", "x", "y")}}};
  for (auto& one : all) one = from_bytes(to_bytes(one));
  const auto merged = merge_findings(all);
  ASSERT_EQ(merged.size(), 4U);
  EXPECT_EQ(merged[0].ranks, (std::vector<int>{0, 1, 2}));
  EXPECT_EQ(merged[0].hosts, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(merged[1].finding.found, "5 GB/s");
  EXPECT_EQ(merged[1].ranks, (std::vector<int>{0, 2}));
  EXPECT_EQ(merged[2].finding.found, "1 GB/s") << "beside what others found about it";
  EXPECT_EQ(merged[3].finding.what, "only here");
  EXPECT_EQ(ranks_text({0, 1, 2}, 3), "");
  EXPECT_EQ(ranks_text({1}, 3), "rank 1");
  EXPECT_EQ(ranks_text({0, 1, 2, 5}, 8), "ranks 0-2,5");
  const auto text = finding_text(merged[2], 3);
  EXPECT_NE(text.find("WRONG"), text.npos);
  EXPECT_NE(text.find("rank 1: 1 GB/s"), text.npos);
  EXPECT_NE(text.find("-> look"), text.npos);
  EXPECT_EQ(finding_text(merged[0], 3).find("rank"), std::string::npos);
}

}  // namespace
}  // namespace vixen

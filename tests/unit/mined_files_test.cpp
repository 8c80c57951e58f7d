// What vixen mine writes: summaries, parts beside an output, lines of JSON.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>
#include <set>

#include "base/file.hpp"
#include "commands/mined_lines.hpp"
#include "commands/mined_parts.hpp"
#include "fixtures/fault.hpp"
#include "fixtures/single_rank.hpp"
#include "fixtures/temp_dir.hpp"

namespace vixen {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

MinedSummary summary_of(int64_t queries, double recall = 1, int64_t recall_queries = 0) {
  MinedSummary summary;
  summary.counts = {.queries = queries, .relevant = 2, .skipped = 3, .same_text = 4, .margin = 5, .kept = 6};
  summary.recall = recall;
  summary.recall_queries = recall_queries;
  return summary;
}

TEST(MinedSummary, AddsAndIsReadBack) {
  auto sum = summary_of(10);
  sum.add(summary_of(20));
  EXPECT_EQ(sum.counts.queries, 30);
  EXPECT_EQ(sum.counts.margin, 10);
  EXPECT_EQ(sum.recall_queries, 0);
  EXPECT_EQ(MinedSummary::parse(sum.json(), "x").json(), sum.json());
  EXPECT_EQ(sum.json().find("recall"), std::string::npos);
  sum.add(summary_of(1, 0.5, 100));
  sum.add(summary_of(1, 1, 300));
  EXPECT_DOUBLE_EQ(sum.recall, 0.875);
  EXPECT_EQ(sum.recall_queries, 400);
  EXPECT_EQ(MinedSummary::parse(sum.json(), "x").json(), sum.json());
  for (const char* damaged : {"", "7", "{\"queries\": 1}", "{\"queries\": -1}", "[1, 2]"})
    EXPECT_FAULT(test::fault_of([&] { MinedSummary::parse(damaged, "m.h5"); }), "m.h5: damaged: labels_found");
  auto text = sum.json();
  text.replace(text.find("\"margin\":"), 9, "\"margin\":1.5,\"x\":");
  EXPECT_FAULT(test::fault_of([&] { MinedSummary::parse(text, "m.h5"); }), "margin");
}

class MinedFiles : public ::testing::Test {
 protected:
  static constexpr int64_t kQueries = 1300, kPlaces = 2;

  MinedParts parts(int64_t part_queries, const std::string& settings = "a = 1\n") const {
    return {out_, kQueries, part_queries, kPlaces, {{"created_by", "vixen mine 0.1.0"}, {kMinedSettings, settings}}};
  }
  // Query i has labels i and i + 1.
  static MinedRows rows(RowRange range) {
    auto found = MinedRows::empty(range.size(), kPlaces);
    for (int64_t i = 0; i < range.size(); ++i)
      for (int64_t place = 0; place < kPlaces; ++place) {
        found.ids[i][place] = range.begin + i + place;
        found.scores[i][place] = -static_cast<float>(place);
        found.places[i][place] = place + 1;
      }
    found.dropped.fill_(1);
    return found;
  }
  void write(const MinedParts& parts, int64_t part) {
    parts.write(part, rows(parts.rows(part)), summary_of(parts.rows(part).size()), comm_);
  }
  std::set<std::string> files() const {
    std::set<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder_.path()))
      names.insert(entry.path().filename().string());
    return names;
  }

  test::SingleRank comm_;
  test::TempDir folder_;
  std::filesystem::path out_ = folder_.path() / "m.h5";
};

TEST_F(MinedFiles, PartsAreWholeBlocksOfRows) {
  const auto all = parts(65536);
  ASSERT_EQ(all.size(), 1);
  EXPECT_EQ(all.rows(0), (RowRange{0, kQueries}));
  const auto some = parts(513);
  ASSERT_EQ(some.size(), 2);
  EXPECT_EQ(some.rows(0), (RowRange{0, 1024}));
  EXPECT_EQ(some.rows(1), (RowRange{1024, kQueries}));
  EXPECT_EQ(parts(1).size(), 3);
  EXPECT_EQ(MinedParts(out_, 0, 100, kPlaces, {}).size(), 0);
  EXPECT_EQ(some.path(1).filename(), "m.h5.part-00001");
  EXPECT_FAULT(test::fault_of([&] { MinedParts(out_, 512 * 100001, 1, kPlaces, {}); }), "mine.part_queries = 1");
}

TEST_F(MinedFiles, GoOnBehindThePartsThatAreThere) {
  const auto three = parts(512);
  EXPECT_EQ(three.missing({}, comm_), (std::vector<int64_t>{0, 1, 2}));
  write(three, 1);
  EXPECT_EQ(three.missing({}, comm_), (std::vector<int64_t>{0, 2}));
  EXPECT_EQ(parts(512, "a = 2\n").missing({}, comm_), (std::vector<int64_t>{0, 1, 2})) << "of other settings";
  EXPECT_EQ(parts(1024).missing({}, comm_), (std::vector<int64_t>{0, 1})) << "of another division";
  EXPECT_FAULT(test::fault_of([&] { three.summary(comm_); }), "m.h5.part-00000");
  for (const int64_t part : {0, 2}) write(three, part);
  EXPECT_TRUE(three.missing({}, comm_).empty());
  EXPECT_EQ(three.summary(comm_).counts.queries, kQueries);
  int64_t next = 0;
  three.for_each_block(comm_, "read", [&](int64_t first, const MinedRows& block) {
    EXPECT_EQ(first, next);
    next += block.ids.size(0);
    EXPECT_TRUE(block.ids.equal(rows({first, next}).ids));
    EXPECT_TRUE(block.scores.equal(rows({first, next}).scores));
  });
  EXPECT_EQ(next, kQueries);
  // Another command with the same output came between.
  write(parts(512, "a = 2\n"), 1);
  EXPECT_FAULT(test::fault_of([&] { three.for_each_block(comm_, "read", [](int64_t, const MinedRows&) {}); }),
               "m.h5.part-00001: is not the part that this command wrote");
  write_text_atomically(three.path(2), "notes");
  EXPECT_FAULT(test::fault_of([&] { three.missing({}, comm_); }), "m.h5.part-00002: exists and was not made by vixen");
}

TEST_F(MinedFiles, RemoveTakesPartsOfAnyDivisionAndNothingElse) {
  write(parts(512), 2);
  write(parts(1024), 0);
  const std::set<std::string> kept = {"m.h5.part-1", "m.h5.part-000001", "m.h5.part-0000x", "m.h5.part-00007",
                                      "m.h5",        "n.h5.part-00000"};
  for (const auto& name : kept) write_text_atomically(folder_.path() / name, "notes");
  write_text_atomically(folder_.path() / "m.h5.part-00001.vixen-partial", "");  // of a command that was killed
  parts(512).remove();
  EXPECT_EQ(files(), kept);
}

TEST_F(MinedFiles, LinesAreTheTextsOfTheLists) {
  const std::string query_bytes = "abc\"", label_bytes = std::string("uvw\xff");
  const std::vector<int64_t> query_starts = {0, 1, 2, 4}, label_starts = {0, 1, 2, 3, 4};
  const SequenceTable queries{{}, {}, {query_starts, query_bytes}}, labels{{}, {}, {label_starts, label_bytes}};
  const std::vector<int64_t> starts = {0, 2, 2, 3};
  const std::vector<int32_t> ids = {0, 1, 2};
  const Ragged<int32_t> relevant{starts, ids};
  const auto lists = at::tensor({2, 3, 0, 1, 3, -1}, at::kInt).view({3, 2});
  const auto lines = [&](MineFormat format, MinePositives which, MinedLineCounts& counts) {
    MinedLineWriter writer(out_, {queries, labels, relevant, labels, format, which});
    writer.write(0, lists.narrow(0, 0, 2));
    writer.write(2, lists.narrow(0, 2, 1));
    counts = writer.close({{"settings", "a = 1\n"}});
    return read_text(out_);
  };
  MinedLineCounts counts;
  EXPECT_EQ(lines(MineFormat::kTuple, MinePositives::kAll, counts),
            "{\"anchor\":\"a\",\"positive\":\"u\",\"negative_1\":\"w\",\"negative_2\":\"\xef\xbf\xbd\"}\n"
            "{\"anchor\":\"a\",\"positive\":\"v\",\"negative_1\":\"w\",\"negative_2\":\"\xef\xbf\xbd\"}\n");
  EXPECT_EQ(counts.lines, 2);
  EXPECT_EQ(counts.short_queries, 1);
  EXPECT_EQ(counts.without_label, 1);
  EXPECT_EQ(lines(MineFormat::kTriplet, MinePositives::kFirst, counts),
            "{\"anchor\":\"a\",\"positive\":\"u\",\"negative\":\"w\"}\n"
            "{\"anchor\":\"a\",\"positive\":\"u\",\"negative\":\"\xef\xbf\xbd\"}\n"
            "{\"anchor\":\"c\\\"\",\"positive\":\"w\",\"negative\":\"\xef\xbf\xbd\"}\n");
  EXPECT_EQ(counts.short_queries, 0);
  EXPECT_TRUE(made_by_vixen(out_));
  EXPECT_EQ(files(), (std::set<std::string>{"m.h5", "m.h5.vixen.json"}));
  const std::string before = read_text(out_);
  {
    MinedLineWriter writer(out_, {queries, labels, relevant, labels, MineFormat::kTuple, MinePositives::kAll});
    writer.write(0, lists);
  }
  EXPECT_EQ(read_text(out_), before) << "without close() nothing is replaced";
  EXPECT_EQ(files(), (std::set<std::string>{"m.h5", "m.h5.vixen.json"}));
}

}  // namespace
}  // namespace vixen

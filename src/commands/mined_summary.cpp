#include "commands/mined_summary.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/check.hpp"
#include "base/text.hpp"
#include "commands/text_table.hpp"

namespace vixen {
namespace {

struct MinedRule {
  const char* name;
  const char* words;
  int64_t MinedCounts::*count;
};
constexpr MinedRule kMinedRules[] = {{"kept", "kept", &MinedCounts::kept},
                                     {"relevant", "relevant", &MinedCounts::relevant},
                                     {"skipped", "passed over as the best", &MinedCounts::skipped},
                                     {"same_text", "of the same text", &MinedCounts::same_text},
                                     {"margin", "within the margin", &MinedCounts::margin}};

}  // namespace

void MinedSummary::add(const MinedSummary& other) {
  counts.add(other.counts);
  const auto own = static_cast<double>(recall_queries), others = static_cast<double>(other.recall_queries);
  if (own + others > 0) recall = (recall * own + other.recall * others) / (own + others);
  recall_queries += other.recall_queries;
}

std::string MinedSummary::json() const {
  nlohmann::ordered_json found = {{"queries", counts.queries}};
  for (const auto& rule : kMinedRules) found[rule.name] = counts.*rule.count;
  if (recall_queries > 0) {
    found["recall"] = recall;
    found["recall_queries"] = recall_queries;
  }
  return found.dump();
}

MinedSummary MinedSummary::parse(const std::string& text, const std::string& where) {
  const auto found = nlohmann::ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
  const auto count = [&](const char* name) {
    if (!found.is_object() || !found.contains(name) || !found[name].is_number_integer() || found[name] < 0)
      fail_user("{}: damaged: {} reads {}, expected the counts that `vixen mine` writes, {} among them", where,
                kMinedSummary, shown(text, 80), name);
    return found[name].get<int64_t>();
  };
  MinedSummary summary;
  summary.counts.queries = count("queries");
  for (const auto& rule : kMinedRules) summary.counts.*rule.count = count(rule.name);
  if (found.contains("recall_queries") && found.contains("recall") && found["recall"].is_number()) {
    summary.recall = found["recall"].get<double>();
    summary.recall_queries = count("recall_queries");
  }
  return summary;
}

std::string mined_report(const MinedAttributes& attributes, const std::string& where) {
  const auto of = [&](const char* name) {
    const auto found = attributes.find(name);
    return found == attributes.end() ? std::string() : found->second;
  };
  const auto summary = MinedSummary::parse(of(kMinedSummary), where);
  std::string out = fmt::format("  made by {}\n", shown(of("created_by")));
  if (attributes.contains(kMinedPart)) out += fmt::format("  a part: queries {}\n", shown(of(kMinedPart)));
  for (const auto& [name, value] : attributes)
    if (name.ends_with("_content")) out += fmt::format("  {}  {}\n", shown(name), shown(value));
  out += "\n  settings\n";
  const std::string settings = of(kMinedSettings);
  for (size_t at = 0; at < settings.size();) {
    const size_t end = std::min(settings.find('\n', at), settings.size());
    out += "    " + shown(settings.substr(at, end - at)) + "\n";
    at = end + 1;
  }
  int64_t all = 0;
  for (const auto& rule : kMinedRules) all += summary.counts.*rule.count;
  TextTable table({"labels found", "number", "share", "a query"});
  for (const auto& rule : kMinedRules) {
    const int64_t count = summary.counts.*rule.count;
    table.add(
        {rule.words, with_commas(count),
         fmt::format("{:.1f}%", 100 * static_cast<double>(count) / static_cast<double>(std::max<int64_t>(1, all))),
         fmt::format("{:.2f}",
                     static_cast<double>(count) / static_cast<double>(std::max<int64_t>(1, summary.counts.queries)))});
  }
  out += "\n" + table.text();
  if (summary.recall_queries > 0)
    out += fmt::format("  the search found {:.2f}% of the exact one's ({} queries compared)\n", 100 * summary.recall,
                       with_commas(summary.recall_queries));
  return out;
}

}  // namespace vixen

// What a mined file says about itself beside its lists: who made it, of what, and what became of the labels found.
#pragma once

#include <map>
#include <string>

#include "mining/candidates.hpp"

namespace vixen {

/// Attributes of the root of an HDF5 file of mined negatives; of JSON lines, members of the record beside them.
using MinedAttributes = std::map<std::string, std::string>;

inline constexpr const char* kMinedFormat = "vixen-mined";     // attribute "format"
inline constexpr const char* kMinedSettings = "settings";      // a line a key
inline constexpr const char* kMinedSummary = "labels_found";   // MinedSummary::json()
inline constexpr const char* kMinedPart = "part_of_queries";   // of a part: "512 to 1023 of 1700"
inline constexpr const char* kModelContent = "model_content";  // hashes, as "queries_content"
inline constexpr const char* kImagesContent = "images_content";
inline constexpr const char* kRelevantContent = "relevant_labels_content";  // of labels that are not those searched

/// What became of the labels that searches found, and what an approximate search missed.
struct MinedSummary {
  MinedCounts counts;
  double recall = 1;           // share of the exact search's labels, over recall_queries
  int64_t recall_queries = 0;  // 0: an exact search

  void add(const MinedSummary& other);
  /// One line: {"queries": 1700, "kept": ..., "relevant": ..., "skipped": ..., "same_text": ..., "margin": ...}, with
  /// an approximate search also "recall" and "recall_queries".
  std::string json() const;
  /// The same read back. UserError naming `where` when it is something else.
  static MinedSummary parse(const std::string& text, const std::string& where);
};

/// For `vixen inspect`: maker, content, settings, and a table of what became of the labels found. `where` names the
/// file in faults.
std::string mined_report(const MinedAttributes& attributes, const std::string& where);

}  // namespace vixen

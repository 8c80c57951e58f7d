// What `vixen doctor` finds: one line of its table.
#pragma once

#include <string>
#include <vector>

namespace vixen {

enum class Health { kGood, kNote, kBad, kSkipped };
/// "ok", "note", "WRONG", "skipped".
const char* name_of(Health health);

struct Finding {
  std::string what;  // the same for the findings of all ranks about one thing: "shared memory"
  Health health = Health::kGood;
  std::string found;   // in numbers
  std::string advice;  // what to do; empty where nothing is to be done
};

inline Finding good(std::string what, std::string found) {
  return {std::move(what), Health::kGood, std::move(found), {}};
}
inline Finding note(std::string what, std::string found, std::string advice) {
  return {std::move(what), Health::kNote, std::move(found), std::move(advice)};
}
inline Finding bad(std::string what, std::string found, std::string advice) {
  return {std::move(what), Health::kBad, std::move(found), std::move(advice)};
}
/// why: what is missing for it to be checked.
inline Finding skipped(std::string what, std::string why) {
  return {std::move(what), Health::kSkipped, std::move(why), {}};
}

using Findings = std::vector<Finding>;

}  // namespace vixen

// The table of all keys: where a key's value lives, what it may be, who reads it, and what --help says about it.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "config/config.hpp"

namespace vixen {

/// Where a key's default comes from.
enum class KeySource {
  kPaper,     ///< the paper's text or tables
  kOfficial,  ///< the authors' code, where the paper is silent or differs
  kOurs,      ///< a setting of this program
};
const char* name_of(KeySource source);

/// An enum behind its names: get() and set() are places in `names`.
struct EnumField {
  std::vector<std::string> names;
  std::function<size_t()> get;
  std::function<void(size_t)> set;
};

/// The member of a Config that a key sets.
using Field = std::variant<std::string*, int64_t*, uint64_t*, double*, bool*, std::vector<int64_t>*, EnumField>;

/// What a number may be: low <= value <= high (or < high). Lists: every element.
struct Range {
  double low;
  double high;
  bool below_high = false;  // high itself is excluded
  const char* words;        // "at least 1", "in [0, 1)"
};

/// What a key's value is on disk: nothing, something that commands read, or something that they write.
enum class PathRole {
  kNone,
  kInput,   ///< a file or folder; also FILE.h5:/dataset
  kOutput,  ///< a file or folder that the command writes
  kRun,     ///< a run folder: written by train, read by others
};

/// What a key's value means for a run, beyond the command that reads it; a set of bits.
enum KeyFacts : unsigned {
  kNoFact = 0,
  kOfModel = 1,   ///< a run's model is read with the value in RUN/config.ini
  kDecisive = 2,  ///< decides the numbers of training: a run that goes on keeps it
};
constexpr KeyFacts operator|(KeyFacts a, KeyFacts b) {
  return static_cast<KeyFacts>(static_cast<unsigned>(a) | static_cast<unsigned>(b));
}

struct Key {
  std::string name;  // "train.lr"; three have no section: device, threads, out
  Field (*field)(Config&);
  std::string unit;  // "" where there is none
  KeySource source;
  std::optional<Range> range;
  std::vector<std::string> readers;  // commands whose work depends on it, in the order of all_commands()
  KeyFacts facts;
  std::string help;  // one sentence, no full stop
  PathRole path = PathRole::kNone;

  std::string section() const;  // "" for device, threads, out
  std::string member() const;   // the name within the section
  bool read_by(std::string_view command) const;
};

/// Every key, section by section, in the order of config.hpp.
const std::vector<Key>& all_keys();
/// nullptr when there is none.
const Key* find_key(std::string_view name);

/// A key of older versions: files that hold it are read, and its value is ignored.
struct RetiredKey {
  std::string name;
  std::string reason;  // "nothing ever read it"
};
const std::vector<RetiredKey>& retired_keys();
/// nullptr when there is none.
const RetiredKey* find_retired_key(std::string_view name);

/// "NUMBER", "TEXT", "true|false", "fp32|bf16"...
std::string type_of(const Key& key);
/// The value as INI text; parses back to the same value.
std::string value_text(const Key& key, const Config& config);
/// Parses and checks `text` into the config. UserError: "WHERE: KEY = TEXT: expected ...".
void set_value(const Key& key, Config& config, const std::string& text, const std::string& where);

/// Copies a key's value from one configuration to another.
void copy_value(const Key& key, const Config& from, Config& to);

/// A command; which keys it reads is in their rows.
struct Command {
  std::string name;
  std::string summary;
  std::string usage;                  // behind "vixen NAME"
  std::vector<std::string> required;  // keys that must not be empty
  bool takes_files = false;
};
const std::vector<Command>& all_commands();
const Command* find_command(std::string_view name);

/// The name nearest to `word` by edit distance, or "" when none is near (more than a third of the letters differ).
std::string nearest_name(std::string_view word, const std::vector<std::string>& names);
/// " (did you mean X?)" or "".
std::string suggestion(std::string_view word, const std::vector<std::string>& names);
std::vector<std::string> key_names();

}  // namespace vixen

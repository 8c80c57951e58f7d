// Values of keys: text to value with checks, value to text; names that are nearly right.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>

#include "base/check.hpp"
#include "base/text.hpp"
#include "config/ini.hpp"
#include "config/keys.hpp"

namespace vixen {
namespace {

constexpr size_t kShownBytes = 200;  // of a value in a message

template <typename... Visitors>
struct Overloaded : Visitors... {
  using Visitors::operator()...;
};
template <typename... Visitors>
Overloaded(Visitors...) -> Overloaded<Visitors...>;  // clang 14 does not find it by itself

template <typename Number>
bool parse_number(std::string_view text, Number& value) {
  const char* end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, value);
  return !text.empty() && result.ec == std::errc() && result.ptr == end;
}

std::string join(const std::vector<std::string>& parts, const char* between) {
  std::string text;
  for (const auto& part : parts) text += (text.empty() ? "" : between) + part;
  return text;
}

/// Comma separated; empty text is an empty list. False when an element is no whole number.
bool parse_list(std::string_view text, std::vector<int64_t>& list) {
  list.clear();
  if (without_blanks(text).empty()) return true;
  while (true) {
    const size_t comma = text.find(',');
    int64_t value = 0;
    if (!parse_number(without_blanks(text.substr(0, comma)), value)) return false;
    list.push_back(value);
    if (comma == text.npos) return true;
    text.remove_prefix(comma + 1);
  }
}

/// INI text of a string: quoted where a plain reading would lose something.
std::string quoted(const std::string& text) {
  if (!needs_quotes(text)) return text;
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    result += c;
  }
  return result + "\"";
}

}  // namespace

std::string Key::section() const {
  const size_t dot = name.find('.');
  return dot == name.npos ? "" : name.substr(0, dot);
}

std::string Key::member() const {
  const size_t dot = name.find('.');
  return dot == name.npos ? name : name.substr(dot + 1);
}

const Key* find_key(std::string_view name) {
  const auto& keys = all_keys();
  const auto found = std::find_if(keys.begin(), keys.end(), [&](const Key& key) { return key.name == name; });
  return found == keys.end() ? nullptr : &*found;
}

const RetiredKey* find_retired_key(std::string_view name) {
  const auto& keys = retired_keys();
  const auto found = std::find_if(keys.begin(), keys.end(), [&](const RetiredKey& key) { return key.name == name; });
  return found == keys.end() ? nullptr : &*found;
}

const Command* find_command(std::string_view name) {
  const auto& commands = all_commands();
  const auto found =
      std::find_if(commands.begin(), commands.end(), [&](const Command& command) { return command.name == name; });
  return found == commands.end() ? nullptr : &*found;
}

std::vector<std::string> key_names() {
  std::vector<std::string> names;
  for (const auto& key : all_keys()) names.push_back(key.name);
  return names;
}

std::string type_of(const Key& key) {
  Config any;
  return std::visit(
      Overloaded{[](std::string*) -> std::string { return "TEXT"; }, [](int64_t*) -> std::string { return "INTEGER"; },
                 [](uint64_t*) -> std::string { return "INTEGER"; }, [](double*) -> std::string { return "NUMBER"; },
                 [](bool*) -> std::string { return "true|false"; },
                 [](std::vector<int64_t>*) -> std::string { return "INTEGER,..."; },
                 [](const EnumField& field) { return join(field.names, "|"); }},
      key.field(any));
}

std::string value_text(const Key& key, const Config& config) {
  // Fields are reached through a mutable Config; a copy keeps this function's argument const.
  Config copy = config;
  return std::visit(
      Overloaded{[](const std::string* value) { return quoted(*value); },
                 [](const bool* value) { return std::string(*value ? "true" : "false"); },
                 [](const std::vector<int64_t>* value) { return fmt::format("{}", fmt::join(*value, ",")); },
                 [](const EnumField& field) { return field.names.at(field.get()); },
                 [](const auto* number) { return fmt::format("{}", *number); }},
      key.field(copy));
}

void copy_value(const Key& key, const Config& from, Config& to) {
  Config source = from;  // as in value_text
  const Field target = key.field(to);
  std::visit(Overloaded{[&](const EnumField& field) { std::get<EnumField>(target).set(field.get()); },
                        [&]<typename T>(const T* value) { *std::get<T*>(target) = *value; }},
             key.field(source));
}

void set_value(const Key& key, Config& config, const std::string& text, const std::string& where) {
  const auto refuse = [&](const std::string& expected) {
    fail_user("{}: {} = {}: expected {}", where, key.name, shown(text, kShownBytes), expected);
  };
  const auto check_range = [&](double value, const char* what) {
    if (!key.range) return;
    const bool inside =
        value >= key.range->low && (key.range->below_high ? value < key.range->high : value <= key.range->high);
    if (!inside) refuse(fmt::format("{} {}", what, key.range->words));
  };
  const auto choose = [&](const std::vector<std::string>& names) {
    const auto found = std::find(names.begin(), names.end(), text);
    if (found == names.end()) refuse("one of " + join(names, ", ") + suggestion(text, names));
    return static_cast<size_t>(found - names.begin());
  };
  if (std::any_of(text.begin(), text.end(), [](unsigned char c) { return c < 0x20 && c != '\t'; })) {
    fail_user("{}: {} = {}: found a control character in the value, expected none", where, key.name,
              shown(text, kShownBytes));
  }
  std::visit(Overloaded{[&](std::string* value) { *value = text; },
                        [&](int64_t* value) {
                          int64_t parsed = 0;
                          if (!parse_number(text, parsed)) refuse("a whole number");
                          check_range(static_cast<double>(parsed), "a whole number");
                          *value = parsed;
                        },
                        [&](uint64_t* value) {
                          if (!parse_number(text, *value)) refuse("a whole number, at least 0");
                        },
                        [&](double* value) {
                          double parsed = 0;
                          if (!parse_number(text, parsed) || !std::isfinite(parsed))
                            refuse(text.find(',') == text.npos ? "a number" : "a number (with a point, not a comma)");
                          check_range(parsed, "a number");
                          *value = parsed;
                        },
                        [&](bool* value) {
                          *value = choose({"true", "false"}) == 0;
                        },
                        [&](std::vector<int64_t>* value) {
                          std::vector<int64_t> parsed;
                          if (!parse_list(text, parsed)) refuse("whole numbers separated by commas");
                          for (const int64_t element : parsed)
                            check_range(static_cast<double>(element), "whole numbers");
                          *value = std::move(parsed);
                        },
                        [&](const EnumField& field) { field.set(choose(field.names)); }},
             key.field(config));
}

std::string nearest_name(std::string_view word, const std::vector<std::string>& names) {
  std::string best;
  size_t best_distance = std::max<size_t>(2, word.size() / 3) + 1;
  for (const auto& name : names) {
    // Levenshtein's distance, one row of its table at a time.
    std::vector<size_t> row(name.size() + 1);
    std::iota(row.begin(), row.end(), size_t{0});
    for (size_t i = 0; i < word.size(); ++i) {
      size_t diagonal = std::exchange(row[0], i + 1);
      for (size_t j = 0; j < name.size(); ++j) {
        const size_t replaced = diagonal + (word[i] == name[j] ? 0 : 1);
        diagonal = row[j + 1];
        row[j + 1] = std::min({replaced, row[j] + 1, diagonal + 1});
      }
    }
    // "batch_size" is near to "train.batch_size", whatever the section costs.
    const bool member = name.size() > word.size() && name.ends_with(word) && name[name.size() - word.size() - 1] == '.';
    const size_t distance = member ? 0 : row.back();
    if (distance < best_distance) {
      best_distance = distance;
      best = name;
    }
  }
  return best;
}

std::string suggestion(std::string_view word, const std::vector<std::string>& names) {
  const auto nearest = nearest_name(word, names);
  return nearest.empty() ? "" : fmt::format(" (did you mean {}?)", nearest);
}

}  // namespace vixen

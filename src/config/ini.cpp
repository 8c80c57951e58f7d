// INI texts line by line. Boost's reader loses line numbers and cuts values at any '#'; this one keeps both.
#include "config/ini.hpp"

#include <algorithm>
#include <vector>

#include "base/check.hpp"
#include "base/text.hpp"

namespace vixen {
namespace {

using namespace std::string_view_literals;

constexpr size_t kShownBytes = 80;  // of a line that is quoted in a message

bool is_blank(char32_t code) {
  return code == ' ' || code == '\t' || code == '\r' || code == 0x85 || code == 0xA0 || code == 0x1680 ||
         (code >= 0x2000 && code <= 0x200D) || code == 0x2028 || code == 0x2029 || code == 0x202F || code == 0x205F ||
         code == 0x2060 || code == 0x3000 || code == 0xFEFF;
}

/// Bytes of the blank that the text begins with; 0: none.
size_t blank_at_begin(std::string_view text) {
  const auto [code, bytes] = first_character(text);
  return bytes > 0 && is_blank(code) ? bytes : 0;
}

size_t blank_at_end(std::string_view text) {
  for (size_t bytes = 1; bytes <= std::min<size_t>(3, text.size()); ++bytes)
    if (blank_at_begin(text.substr(text.size() - bytes)) == bytes) return bytes;
  return 0;
}

bool is_curly_quote(char32_t code) {
  return (code >= 0x2018 && code <= 0x201F) || code == 0xAB || code == 0xBB;
}

bool stands_in_curly_quotes(std::string_view text) {
  const auto first = first_character(text);
  if (first.bytes == 0 || !is_curly_quote(first.code)) return false;
  text.remove_prefix(first.bytes);
  for (size_t bytes = 2; bytes <= std::min<size_t>(3, text.size()); ++bytes) {
    const auto last = first_character(text.substr(text.size() - bytes));
    if (last.bytes == bytes && is_curly_quote(last.code)) return true;
  }
  return false;
}

bool stands_in_single_quotes(std::string_view text) {
  return text.size() >= 2 && text.front() == '\'' && text.back() == '\'';
}

bool begins_comment(std::string_view text) {
  return text.starts_with('#') || text.starts_with(';');
}

/// What stands in front of a comment; # and ; begin one at the start or behind a blank.
std::string_view without_comment(std::string_view text) {
  bool at_word = true;
  for (size_t at = 0; at < text.size();) {
    if (at_word && begins_comment(text.substr(at))) return without_blanks(text.substr(0, at));
    const size_t blank = blank_at_begin(text.substr(at));
    at_word = blank > 0;
    at += std::max<size_t>(blank, 1);
  }
  return without_blanks(text);
}

void expect_end(std::string_view rest, const char* behind, const std::string& where) {
  rest = without_blanks(rest);
  if (!rest.empty() && !begins_comment(rest))
    fail_user("{}: found \"{}\" behind {}, expected the end of the line", where, shown(rest, kShownBytes), behind);
}

/// The value of "key = value  # comment", quotes removed.
std::string ini_value(std::string_view text, const std::string& where) {
  text = without_blanks(text);
  if (text.starts_with('"')) {
    std::string value;
    for (size_t at = 1; at < text.size(); ++at) {
      if (text[at] == '"') {
        expect_end(text.substr(at + 1), "the closing quote", where);
        return value;
      }
      if (text[at] == '\\' && at + 1 < text.size()) ++at;
      value += text[at];
    }
    fail_user("{}: found no closing quote, expected one on the same line", where);
  }
  const std::string_view value = without_comment(text);
  refuse_curly_quotes(value, where);
  if (stands_in_single_quotes(value))
    fail_user("{}: found {}, expected double quotes or none", where, shown(value, kShownBytes));
  if (value.ends_with('\\'))
    fail_user(
        "{}: found \\ at the end of the line, expected a whole value on one line (in double quotes where it "
        "ends in \\)",
        where);
  return std::string(value);
}

/// The section of a line "[section]  # comment".
std::string section_of(std::string_view line, const std::string& where) {
  const size_t close = line.find(']');
  if (close == line.npos) fail_user("{}: found \"{}\", expected [section]", where, shown(line, kShownBytes));
  std::string section(without_blanks(line.substr(1, close - 1)));
  const auto names = key_names();
  if (std::none_of(names.begin(), names.end(), [&](const auto& name) { return name.starts_with(section + "."); })) {
    std::vector<std::string> sections;
    for (const auto& key : all_keys()) sections.push_back(key.section());
    fail_user("{}: unknown section [{}]{}", where, shown(section, kShownBytes), suggestion(section, sections));
  }
  expect_end(line.substr(close + 1), "the section", where);
  return section;
}

/// Lines one after the other, whatever ends them.
class Lines {
 public:
  explicit Lines(std::string_view text) : rest_(text) {}
  bool next(std::string_view& line) {
    if (done_) return false;
    const size_t end = rest_.find_first_of("\r\n");
    done_ = end == rest_.npos;
    line = rest_.substr(0, end);
    if (!done_) rest_.remove_prefix(end + (rest_.substr(end).starts_with("\r\n") ? 2 : 1));
    return true;
  }

 private:
  std::string_view rest_;
  bool done_ = false;
};

}  // namespace

std::string_view without_blanks(std::string_view text) {
  while (const size_t bytes = blank_at_begin(text)) text.remove_prefix(bytes);
  while (const size_t bytes = blank_at_end(text)) text.remove_suffix(bytes);
  return text;
}

bool needs_quotes(std::string_view value) {
  return value.find_first_of("#;\"\\") != value.npos || without_blanks(value).size() != value.size() ||
         stands_in_curly_quotes(value) || stands_in_single_quotes(value);
}

void refuse_curly_quotes(std::string_view value, const std::string& where) {
  if (stands_in_curly_quotes(value))
    fail_user("{}: found {} in the quotes of a word processor, expected \" or none", where, shown(value, kShownBytes));
}

std::vector<std::string> for_each_assignment(
    std::string_view text, const std::string& source,
    const std::function<void(const Key&, const std::string&, const std::string&)>& set) {
  const bool wide = text.size() >= 2 && ((text[0] == '\0') != (text[1] == '\0'));
  if (wide || text.starts_with("\xff\xfe"sv) || text.starts_with("\xfe\xff"sv))
    fail_user("{}: found UTF-16 text, expected UTF-8: save the file in that encoding", source);
  if (text.starts_with("\xef\xbb\xbf"sv)) text.remove_prefix(3);
  std::vector<std::string> retired;
  std::string section;
  size_t line_number = 0;
  Lines lines(text);
  for (std::string_view line; lines.next(line);) {
    line = without_blanks(line);
    const std::string where = fmt::format("{}:{}", source, ++line_number);
    if (line.empty() || begins_comment(line)) continue;
    if (line.front() == '[') {
      section = section_of(line, where);
      continue;
    }
    const size_t equals = line.find('=');
    if (equals == line.npos) fail_user("{}: found \"{}\", expected key = value", where, shown(line, kShownBytes));
    const std::string member(without_blanks(line.substr(0, equals)));
    const std::string name = section.empty() ? member : fmt::format("{}.{}", section, member);
    const Key* key = find_key(name);
    if (const RetiredKey* old = find_retired_key(name)) {
      retired.push_back(fmt::format("{}: {} is ignored: {}", where, name, old->reason));
      continue;
    }
    if (key == nullptr)
      fail_user("{}: unknown key {}{}", where, shown(name, kShownBytes), suggestion(name, key_names()));
    set(*key, ini_value(line.substr(equals + 1), where), where);
  }
  return retired;
}

}  // namespace vixen

#include "base/json_file.hpp"

#include <algorithm>

#include "base/check.hpp"
#include "base/file.hpp"
#include "base/file_kind.hpp"
#include "base/text.hpp"

namespace vixen {
namespace {

using namespace std::string_view_literals;
using Json = nlohmann::ordered_json;

constexpr int kDeepest = 100;        // real files have ten levels at most
constexpr size_t kShownBytes = 200;  // of a value or reason in a message

/// Levels of objects and arrays inside each other, of any text: what stands in strings does not count.
int depth_of(std::string_view text) {
  int depth = 0, deepest = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\')
        ++i;
      else if (c == '"')
        in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      deepest = std::max(deepest, ++depth);
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return deepest;
}

/// nlohmann's sentence without its number and the library's name.
std::string reason_of(const Json::exception& error) {
  std::string_view text = error.what();
  if (const size_t end = text.find("] "); text.starts_with('[') && end != text.npos) text.remove_prefix(end + 2);
  return shown(text, kShownBytes);
}

}  // namespace

nlohmann::ordered_json read_json(const std::filesystem::path& path, const std::string& expected) {
  const std::string text = read_text(path);
  const std::string file = shown(path.string());
  std::string_view json = text;
  if (json.starts_with("\xff\xfe"sv) || json.starts_with("\xfe\xff"sv))
    fail_user("{}: found UTF-16 text, expected {} in UTF-8", file, expected);
  if (json.starts_with("\xef\xbb\xbf"sv)) json.remove_prefix(3);
  // The parser takes a NUL for the end of the text.
  if (const size_t nul = json.find('\0'); nul != json.npos)
    fail_user("{}: found a NUL at byte {}, expected {}", file, nul + (text.size() - json.size()), expected);
  if (is_deep_json(json))
    fail_user("{}: found JSON nested deeper than {} levels, expected {}", file, kDeepest, expected);
  try {
    return Json::parse(json.begin(), json.end());
  } catch (const Json::exception& error) {
    const std::string kind = what_it_is(path);
    if (kind.starts_with("text that begins") || kind.empty())  // of JSON with a fault, where it is says more
      fail_user("{}: {}; expected {}", file, reason_of(error), expected);
    fail_user("{}: found {}, expected {}", file, kind, expected);
  }
}

nlohmann::ordered_json read_json_object(const std::filesystem::path& path, const std::string& expected) {
  auto json = read_json(path, expected);
  if (!json.is_object())
    fail_user("{}: found a JSON {}, expected {}", shown(path.string()), json.type_name(), expected);
  return json;
}

bool is_deep_json(std::string_view text) {
  return depth_of(text) > kDeepest;
}

std::string shown_json(const nlohmann::ordered_json& value) {
  return shown(value.dump(-1, ' ', false, Json::error_handler_t::replace), kShownBytes);
}

}  // namespace vixen

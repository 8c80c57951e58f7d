#include "fuzz/mutate.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstring>
#include <iterator>
#include <nlohmann/json.hpp>

namespace vixen::fuzz {
namespace {

using Json = nlohmann::ordered_json;

const std::vector<uint64_t> kEdges = {0,
                                      1,
                                      2,
                                      7,
                                      8,
                                      0x7f,
                                      0x80,
                                      0xff,
                                      0x100,
                                      0x7fff,
                                      0xffff,
                                      0x10000,
                                      0x7fffffff,
                                      0x80000000,
                                      0xffffffff,
                                      0x100000000,
                                      0x20000000000000,
                                      0x2000000000000000,
                                      0x4000000000000000,
                                      0x7fffffffffffffff,
                                      0x8000000000000000,
                                      0xfffffffffffffff0,
                                      0xffffffffffffffff};

const Words kNumbers = {"0",
                        "1",
                        "-1",
                        "2",
                        "3",
                        "0.5",
                        "-0.0",
                        "1e-320",
                        "1e308",
                        "1e999",
                        "2147483647",
                        "2147483648",
                        "4294967296",
                        "9007199254740993",
                        "9223372036854775807",
                        "9223372036854775808",
                        "18446744073709551615",
                        "18446744073709551616",
                        "-9223372036854775808",
                        "1000000000000",
                        "65536",
                        "nan",
                        "inf",
                        "0x10",
                        "1_000",
                        "+1"};

const Words kOddTexts = {
    "",     " ",        "\t",           "\n",           "\r",           std::string("\0", 1), "\x7f",
    "\xff", "\xc3\x28", "\xe2\x80\xae", "\xef\xbb\xbf", "\xe2\x80\x8b", "\xed\xa0\x80",       "..",
    "../x", "/",        "%s%n",         "{}",           "{0:999999}"};

size_t place(const std::string& text, Random& random) {
  return random.below(text.size() + 1);
}

// A range, short ones more often.
std::pair<size_t, size_t> range_of(const std::string& text, Random& random) {
  const size_t begin = random.below(text.size());
  const size_t most = random.one_in(4) ? text.size() - begin : std::min<size_t>(text.size() - begin, 16);
  return {begin, 1 + random.below(most)};
}

void overwrite_integer(std::string& text, Random& random) {
  const size_t width = size_t{1} << random.below(4);
  if (text.size() < width) return;
  size_t at = random.below(text.size() - width + 1);
  if (random.one_in(2)) at -= at % width;  // files keep integers at multiples of their width
  uint64_t value = random.one_of(kEdges);
  if (random.one_in(3)) {
    value = 0;
    std::memcpy(&value, text.data() + at, width);
    const std::array<uint64_t, 6> steps = {1, 2, 8, 64, 1024, 0x100000};
    value = random.one_in(2) ? value + steps[random.below(steps.size())] : value - steps[random.below(steps.size())];
  }
  if (random.one_in(6)) value = text.size() + random.below(3) - 1;
  std::memcpy(text.data() + at, &value, width);
}

void replace_number(std::string& text, Random& random) {
  const size_t from = random.below(text.size());
  const auto digit = [](unsigned char c) { return std::isdigit(c) != 0; };
  const auto begin = std::find_if(text.begin() + static_cast<std::ptrdiff_t>(from), text.end(), digit);
  const auto end = std::find_if_not(begin, text.end(), digit);
  if (begin == text.end()) return;
  text.replace(begin, end, random.one_of(kNumbers));
}

void change_lines(std::string& text, Random& random) {
  std::vector<std::string> lines;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  const size_t at = random.below(lines.size()), other = random.below(lines.size());
  switch (random.below(4)) {
    case 0:
      lines.erase(lines.begin() + static_cast<std::ptrdiff_t>(at));
      break;
    case 1:
      lines.insert(lines.begin() + static_cast<std::ptrdiff_t>(at), lines[other]);
      break;
    case 2:
      std::swap(lines[at], lines[other]);
      break;
    default:
      lines[at] += lines[other];
  }
  text.clear();
  for (const auto& line : lines) text += (&line == lines.data() ? "" : "\n") + line;
}

// Deep enough for a reader that recurses to run out of stack.
std::string nested(Random& random) {
  const size_t depth = random.one_in(8) ? 200000 : 1 + random.below(200);
  const bool object = random.one_in(2);
  std::string text;
  for (size_t i = 0; i < depth; ++i) text += object ? "{\"a\":" : "[";
  text += "1";
  for (size_t i = 0; i < depth; ++i) text += object ? "}" : "]";
  return text;
}

Json odd_value(Random& random, const Words& words) {
  switch (random.below(8)) {
    case 0:
      return nullptr;
    case 1:
      return random.one_in(2);
    case 2:
      return random.one_of(kEdges);
    case 3:
      return -static_cast<int64_t>(random.below(1000)) - 1;
    case 4:
      return random.one_of(std::vector<double>{0.0, -0.0, 0.5, 1.0, -1.5, 1e308, 1e-320, 1e19, 3.0});
    case 5:
      return random.one_in(2) ? Json::array() : Json::object();
    case 6:
      return words.empty() ? Json("x") : Json(random.one_of(words));
    default: {
      const std::string text = random.one_of(kOddTexts);
      return Json::accept(Json(text).dump(-1, ' ', false, Json::error_handler_t::replace)) ? Json("a" + text) : Json();
    }
  }
}

void collect(Json& node, std::vector<Json*>& nodes) {
  nodes.push_back(&node);
  if (node.is_structured())
    for (auto& child : node) collect(child, nodes);
}

int depth_of(const std::string& text) {
  int depth = 0, most = 0;
  for (const char c : text) {
    if (c == '[' || c == '{') most = std::max(most, ++depth);
    if (c == ']' || c == '}') --depth;
  }
  return most;
}

}  // namespace

std::string mutate_bytes(std::string input, Random& random) {
  if (input.empty()) return std::string(1 + random.below(8), static_cast<char>(random.bits()));
  const size_t at = random.below(input.size());
  switch (random.below(9)) {
    case 0:
      input[at] = static_cast<char>(input[at] ^ (1 << random.below(8)));
      break;
    case 1:
      input[at] = static_cast<char>(random.bits());
      break;
    case 2:
    case 3:
    case 4:
      overwrite_integer(input, random);
      break;
    case 5: {
      const auto [begin, size] = range_of(input, random);
      input.erase(begin, size);
      break;
    }
    case 6: {
      const auto [begin, size] = range_of(input, random);
      input.insert(place(input, random), input.substr(begin, size));
      break;
    }
    case 7: {
      const auto [begin, size] = range_of(input, random);
      const std::string part = input.substr(begin, size);
      const size_t target = random.below(input.size() - size + 1);
      input.replace(target, size, part);
      break;
    }
    default:
      if (random.one_in(3))
        input.resize(at);
      else
        input.insert(at, std::string(1 + random.below(random.one_in(8) ? 4096 : 8), static_cast<char>(random.bits())));
  }
  return input;
}

std::string mutate_text(std::string input, Random& random, const Words& words) {
  if (input.empty()) return words.empty() ? "x" : random.one_of(words);
  switch (random.below(6)) {
    case 0:
      return mutate_bytes(std::move(input), random);
    case 1:
      replace_number(input, random);
      break;
    case 2:
      change_lines(input, random);
      break;
    case 3:
      input.insert(place(input, random), random.one_of(kOddTexts));
      break;
    case 4: {
      const auto [begin, size] = range_of(input, random);
      input.replace(begin, size, words.empty() ? "x" : random.one_of(words));
      break;
    }
    default:
      input.insert(place(input, random), words.empty() ? "x" : random.one_of(words));
  }
  return input;
}

std::string mutate_json(const std::string& input, Random& random, const Words& words) {
  if (random.one_in(4) || depth_of(input) > 500) return mutate_text(input, random, words);  // collect() recurses
  Json document = Json::parse(input, nullptr, /*allow_exceptions=*/false);
  if (document.is_discarded()) return mutate_text(input, random, words);
  std::vector<Json*> nodes;
  collect(document, nodes);
  Json& node = *nodes[random.below(nodes.size())];
  const std::string mark = "\"vixen-fuzz-mark\"";
  bool marked = false;
  if (node.is_object() && !node.empty() && !random.one_in(4)) {
    const auto member = std::next(node.begin(), static_cast<std::ptrdiff_t>(random.below(node.size())));
    const std::string key = member.key();
    const Json value = member.value();
    switch (random.below(3)) {
      case 0:
        node.erase(key);
        break;
      case 1:
        node.erase(key);
        node[words.empty() || random.one_in(3) ? key + "x" : random.one_of(words)] = value;
        break;
      default:
        if (!words.empty()) node[random.one_of(words)] = odd_value(random, words);
    }
  } else if (node.is_array() && !node.empty() && random.one_in(2)) {
    if (random.one_in(2))
      node.erase(random.below(node.size()));
    else
      node.push_back(Json(node[random.below(node.size())]));
  } else if (random.one_in(5)) {
    const Json copy = *nodes[random.below(nodes.size())];
    node = copy;
  } else if (random.one_in(12)) {
    node = "vixen-fuzz-mark";
    marked = true;
  } else {
    node = odd_value(random, words);
  }
  std::string text = document.dump(random.one_in(2) ? -1 : 2, ' ', false, Json::error_handler_t::replace);
  if (marked)
    if (const size_t at = text.find(mark); at != std::string::npos) text.replace(at, mark.size(), nested(random));
  return text;
}

std::string bundle(const std::vector<std::string>& parts) {
  std::string all;
  for (size_t i = 0; i < parts.size(); ++i) {
    const auto size = static_cast<uint32_t>(parts[i].size());
    if (i + 1 < parts.size()) all.append(reinterpret_cast<const char*>(&size), sizeof size);
    all += parts[i];
  }
  return all;
}

std::vector<std::string> unbundle(const std::string& input, size_t count) {
  std::vector<std::string> parts;
  size_t at = 0;
  while (parts.size() + 1 < count) {
    uint32_t size = 0;
    if (at + sizeof size <= input.size()) {
      std::memcpy(&size, input.data() + at, sizeof size);
      at += sizeof size;
    }
    parts.push_back(input.substr(std::min(at, input.size()), size));
    at += parts.back().size();
  }
  parts.push_back(input.substr(std::min(at, input.size())));
  return parts;
}

std::string mutate_safetensors(const std::string& input, Random& random, const Words& words) {
  uint64_t length = 0;
  if (input.size() >= sizeof length) std::memcpy(&length, input.data(), sizeof length);
  if (input.size() < sizeof length || length > input.size() - sizeof length || random.one_in(8))
    return mutate_bytes(input, random);
  std::string header = input.substr(sizeof length, length), data = input.substr(sizeof length + length);
  if (random.one_in(6))
    data = mutate_bytes(std::move(data), random);
  else
    header = mutate_json(header, random, words);
  length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof length) + header + data;
}

}  // namespace vixen::fuzz

// UTF-8, character by character.
#include "base/text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace vixen {
namespace {

struct Range {
  char32_t first, last;
};

/// Characters without ink, by Unicode's categories Cc, Cf, Zs, Zl, Zp, and the blank ones among letters and marks.
constexpr std::array<Range, 32> kInvisible = {{
    {0x00, 0x1F},       {0x7F, 0xA0},        {0xAD, 0xAD},       {0x034F, 0x034F},   {0x0600, 0x0605},
    {0x061C, 0x061C},   {0x06DD, 0x06DD},    {0x070F, 0x070F},   {0x08E2, 0x08E2},   {0x115F, 0x1160},
    {0x1680, 0x1680},   {0x17B4, 0x17B5},    {0x180B, 0x180F},   {0x2000, 0x200F},   {0x2028, 0x202F},
    {0x205F, 0x206F},   {0x2800, 0x2800},    {0x3000, 0x3000},   {0x3164, 0x3164},   {0xE000, 0xF8FF},
    {0xFE00, 0xFE0F},   {0xFEFF, 0xFEFF},    {0xFFA0, 0xFFA0},   {0xFFF0, 0xFFFB},   {0xFFFE, 0xFFFF},
    {0x110BD, 0x110BD}, {0x110CD, 0x110CD},  {0x13430, 0x1343F}, {0x1BCA0, 0x1BCA3}, {0x1D173, 0x1D17A},
    {0xE0000, 0xE0FFF}, {0xF0000, 0x10FFFF},
}};

bool is_invisible(char32_t code) {
  const auto after = std::upper_bound(kInvisible.begin(), kInvisible.end(), code,
                                      [](char32_t value, const Range& range) { return value < range.first; });
  return after != kInvisible.begin() && code <= std::prev(after)->last;
}

}  // namespace

Utf8Character first_character(std::string_view text) {
  const auto byte = [text](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const unsigned first = byte(0), second = byte(1);
  const size_t length = text.empty()   ? 0
                        : first < 0x80 ? 1
                        : first < 0xC2 ? 0
                        : first < 0xE0 ? 2
                        : first < 0xF0 ? 3
                        : first < 0xF5 ? 4
                                       : 0;
  if (length <= 1) return {first, length};
  // Overlong forms, surrogates, and what is beyond U+10FFFF.
  if ((first == 0xE0 && second < 0xA0) || (first == 0xED && second > 0x9F) || (first == 0xF0 && second < 0x90) ||
      (first == 0xF4 && second > 0x8F))
    return {};
  char32_t code = first & (0x7Fu >> length);
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return {};
    code = code << 6 | (byte(i) & 0x3F);
  }
  return {code, length};
}

std::string shown(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const auto [code, bytes] = first_character(text);
    if (bytes == 0)
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(text[0]));
    else if (!is_invisible(code))
      out += text.substr(0, bytes);
    else if (code < 0x80)
      out += fmt::format("\\x{:02x}", static_cast<unsigned>(code));
    else if (code <= 0xFFFF)
      out += fmt::format("\\u{:04x}", static_cast<unsigned>(code));
    else
      out += fmt::format("\\U{:08x}", static_cast<unsigned>(code));
    text.remove_prefix(std::max<size_t>(bytes, 1));
  }
  return out;
}

std::string shown(std::string_view text, size_t most) {
  size_t kept = 0;
  while (kept < text.size()) {
    const size_t next = kept + std::max<size_t>(first_character(text.substr(kept)).bytes, 1);
    if (next > most) return shown(text.substr(0, kept)) + "...";
    kept = next;
  }
  return shown(text);
}

std::string with_commas(int64_t value) {
  std::string digits = std::to_string(value);
  const size_t first = value < 0 ? 1 : 0;
  for (size_t at = digits.size(); at > first + 3;) digits.insert(at -= 3, 1, ',');
  return digits;
}

}  // namespace vixen

// Text from outside (a file, a name, an argument) as a message shows it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace vixen {

/// One UTF-8 character at the beginning of a text.
struct Utf8Character {
  char32_t code = 0;
  size_t bytes = 0;  // 1 to 4; 0 when the text is empty or does not begin with a well-formed character (RFC 3629)
};
Utf8Character first_character(std::string_view text);

/// The text with everything escaped that a terminal would not show, or show as something else: control characters as
/// `\x0a`, bytes that are no UTF-8 as `\xff`, zero-width, bidirectional and other format characters, byte order marks,
/// fillers and every blank but the ordinary one as `\u200b` or `\U000e0001`. Visible characters stay as they are.
std::string shown(std::string_view text);

/// shown() of the first `most` bytes (whole characters), with "..." behind them when there are more.
std::string shown(std::string_view text, size_t most);

/// 12345 -> "12,345"
std::string with_commas(int64_t value);

}  // namespace vixen

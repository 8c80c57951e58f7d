// The INI text that settings are written in: its lines, quotes, comments, and what editors leave in it.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "config/keys.hpp"

namespace vixen {

/// The text without leading and trailing blanks: spaces, tabs, no-break, zero-width and other Unicode blanks.
std::string_view without_blanks(std::string_view text);

/// Whether an INI value must be quoted to be read back unchanged.
bool needs_quotes(std::string_view value);

/// UserError when the value has typographic quotes, which are not removed.
void refuse_curly_quotes(std::string_view value, const std::string& where);

/// Calls set(key, value, where) for every assignment of an INI text. Lines end in \n, \r\n or \r; a UTF-8 byte order
/// mark in front is skipped. `where` is "source:line". A retired key is skipped; what it was is a line of the result.
/// UserError naming it: unknown section or key, a line that is neither, text behind a section or a closing quote,
/// UTF-16.
std::vector<std::string> for_each_assignment(
    std::string_view text, const std::string& source,
    const std::function<void(const Key&, const std::string&, const std::string&)>& set);

}  // namespace vixen

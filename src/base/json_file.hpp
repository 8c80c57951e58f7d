// JSON files that others wrote: models, adapters, tokenizers.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace vixen {

/// What a JSON file holds; a UTF-8 byte order mark in front is skipped. UserError of one line that names the file, says
/// what the file is instead (a Git LFS pointer, a web page, UTF-16) and closes with "expected `expected`": unreadable,
/// no JSON, or nested deeper than any such file is (which would exhaust the stack of whoever copies it).
nlohmann::ordered_json read_json(const std::filesystem::path& path, const std::string& expected);

/// The same where it must be an object.
nlohmann::ordered_json read_json_object(const std::filesystem::path& path, const std::string& expected);

/// Whether objects and arrays of a JSON text are nested deeper than in any real file.
bool is_deep_json(std::string_view text);

/// A value as a message shows it: on one line, invisible characters escaped, cut when it is long.
std::string shown_json(const nlohmann::ordered_json& value);

}  // namespace vixen

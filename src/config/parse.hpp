// From the command line and INI files to a Config.
#pragma once

#include <string>
#include <vector>

#include "config/config.hpp"

namespace vixen {

/// What the command line asked for.
struct ParsedCommand {
  Config config;                        ///< what the command reads; other keys have their defaults
  bool help = false;                    ///< --help, or no command: print help_text and exit 0
  bool version = false;                 ///< --version: print the version and exit 0
  bool print_config = false;            ///< --print-config: print resolved_text and exit 0
  std::vector<std::string> positional;  ///< FILES of `inspect`, empty for others
  std::string resolved_text;            ///< the resolved INI; behind each key, as a comment, where its value came from
  std::vector<std::string> warnings;    ///< retired keys of the --config files, one line each
};

/// argv[1] is the command. Later values win: defaults < --config files in order < command line. Throws UserError: an
/// unknown key or command (with the nearest known name), an option that the command does not read (with the commands
/// that do), a value of the wrong type or range, an unreadable file (with file and line). A file may hold keys of other
/// commands: it is shared. Both `--section.key VALUE` and `--section.key=VALUE`; booleans take true|false (a bare flag
/// is true).
ParsedCommand parse_command_line(int argc, const char* const* argv);

/// Help of one command, or (empty) the list of commands: every key with type, unit, default and source.
std::string help_text(const std::string& command);

/// The INI text of a config, every key that differs from its default or all of them; parses back to the same Config.
std::string to_ini(const Config& config, bool only_changed);

/// Reads an INI text over a config. `source` names it in messages. Returns a line for each retired key, which is
/// skipped.
std::vector<std::string> apply_ini(Config& config, const std::string& text, const std::string& source);

}  // namespace vixen

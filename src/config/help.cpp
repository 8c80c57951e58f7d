// What --help prints: the commands, or one command with the keys that it reads.
#include <algorithm>

#include "base/check.hpp"
#include "config/keys.hpp"
#include "config/parse.hpp"

namespace vixen {
namespace {

constexpr size_t kColumns = 110;
constexpr size_t kIndent = 6;

/// Words of `text` in lines of kColumns, each behind kIndent spaces.
std::string wrapped(const std::string& text) {
  std::string result, line;
  const auto flush = [&] {
    result += std::string(kIndent, ' ') + line + "\n";
    line.clear();
  };
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(' ', begin), text.size());
    const std::string word = text.substr(begin, end - begin);
    if (!line.empty() && kIndent + line.size() + 1 + word.size() > kColumns) flush();
    line += (line.empty() ? "" : " ") + word;
    begin = end + 1;
  }
  if (!line.empty()) flush();
  return result;
}

std::string key_help(const Key& key, const std::string& command) {
  const std::string value = value_text(key, Config());
  std::string facts = fmt::format("default {}", value.empty() ? "none" : value);
  if (!key.unit.empty()) facts += fmt::format("; unit: {}", key.unit);
  if (key.range && key.range->words != std::string("a number")) facts += fmt::format("; {}", key.range->words);
  facts += fmt::format("; source: {}", name_of(key.source));
  if ((key.facts & kOfModel) && command != "train" && find_key("run.dir")->read_by(command))
    facts += "; with --run.dir the run's own holds";
  return fmt::format("  --{} {}\n{}", key.name, type_of(key), wrapped(fmt::format("{}. [{}]", key.help, facts)));
}

std::string general_help() {
  std::string text =
      "vixen: extreme multi-label retrieval from text and pictures, trained, sharded and evaluated over any number of "
      "ranks\n\n"
      "usage: vixen COMMAND [--config FILE.ini ...] [--section.key VALUE ...]\n"
      "       mpirun -n W vixen COMMAND ...     (or srun; alone: one rank)\n\ncommands:\n";
  for (const auto& command : all_commands()) text += fmt::format("  {:<9} {}\n", command.name, command.summary);
  return text +
         "\nvixen COMMAND --help documents every key of a command.\n"
         "--print-config shows the resolved INI, with where each value came from; later values win: of files, of lines "
         "in a\n"
         "file, of options. An INI file is UTF-8: [section], key = value, \"quotes\" where a value needs them, # or ; "
         "before\n"
         "comments. Commands may share it: keys that only others read are left alone there, as an option they are "
         "refused.\n"
         "--version prints the version.\n"
         "exit codes: 0 done; 2 a mistake in what was given (one line says which); 75 stopped on request after saving: "
         "run\n"
         "the same command again; 1 anything else\n";
}

}  // namespace

std::string help_text(const std::string& command_name) {
  if (command_name.empty()) return general_help();
  const Command* command = find_command(command_name);
  VIXEN_CHECK(command != nullptr, "no command {}", command_name);
  std::string text = fmt::format("vixen {}: {}\n\nusage: vixen {} {}\n", command->name, command->summary, command->name,
                                 command->usage);
  text += "       [--config FILE.ini ...] [--section.key VALUE ...] [--print-config]\n";
  std::string section = "none yet";
  for (const auto& key : all_keys()) {
    if (!key.read_by(command_name)) continue;
    if (key.section() != section) {
      section = key.section();
      text += section.empty() ? "\n" : fmt::format("\n[{}]\n", section);
    }
    text += key_help(key, command_name);
  }
  return text;
}

}  // namespace vixen

// Command line and INI files to a Config, and back to INI text with the provenance of every value.
#include "config/parse.hpp"

#include <algorithm>
#include <boost/program_options.hpp>
#include <functional>
#include <map>
#include <string_view>

#include "base/check.hpp"
#include "base/file.hpp"
#include "config/keys.hpp"

namespace vixen {
namespace {

namespace options = boost::program_options;

using Provenance = std::map<std::string, std::string>;  // key -> where its value came from

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kBlank = " \t\r";
  const size_t begin = text.find_first_not_of(kBlank);
  if (begin == text.npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlank) - begin + 1);
}

/// The value of "key = value  # comment": quotes removed; # and ; begin a comment at the start or behind a blank.
std::string ini_value(std::string_view text, const std::string& where) {
  text = trimmed(text);
  if (text.starts_with('"')) {
    std::string value;
    for (size_t at = 1; at < text.size(); ++at) {
      if (text[at] == '"') {
        const auto rest = trimmed(text.substr(at + 1));
        if (rest.empty() || rest.front() == '#' || rest.front() == ';') return value;
        fail_user("{}: found \"{}\" behind the closing quote, expected the end of the line", where, rest);
      }
      if (text[at] == '\\' && at + 1 < text.size()) ++at;
      value += text[at];
    }
    fail_user("{}: found no closing quote, expected one on the same line", where);
  }
  for (size_t at = 0; at < text.size(); ++at) {
    const bool at_word = at == 0 || text[at - 1] == ' ' || text[at - 1] == '\t';
    if ((text[at] == '#' || text[at] == ';') && at_word) return std::string(trimmed(text.substr(0, at)));
  }
  return std::string(text);
}

/// Calls set(key, value, where) for every assignment of an INI text. Boost's INI reader loses line numbers and cuts
/// values at any '#'; this one keeps both.
void for_each_assignment(const std::string& text, const std::string& source,
                         const std::function<void(const Key&, const std::string&, const std::string&)>& set) {
  std::string section;
  size_t line_number = 0;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const auto line = trimmed(std::string_view(text).substr(begin, end - begin));
    begin = end + 1;
    const std::string where = fmt::format("{}:{}", source, ++line_number);
    if (line.empty() || line.front() == '#' || line.front() == ';') continue;
    if (line.front() == '[') {
      const size_t close = line.find(']');
      if (close == line.npos) fail_user("{}: found \"{}\", expected [section]", where, line);
      section = trimmed(line.substr(1, close - 1));
      const auto names = key_names();
      if (std::none_of(names.begin(), names.end(), [&](const auto& name) { return name.starts_with(section + "."); })) {
        std::vector<std::string> sections;
        for (const auto& key : all_keys()) sections.push_back(key.section());
        fail_user("{}: unknown section [{}]{}", where, section, suggestion(section, sections));
      }
      continue;
    }
    const size_t equals = line.find('=');
    if (equals == line.npos) fail_user("{}: found \"{}\", expected key = value", where, line);
    const std::string member(trimmed(line.substr(0, equals)));
    const std::string name = section.empty() ? member : section + "." + member;
    const Key* key = find_key(name);
    if (key == nullptr) fail_user("{}: unknown key {}{}", where, name, suggestion(name, key_names()));
    set(*key, ini_value(line.substr(equals + 1), where), where);
  }
}

void apply_file(Config& config, const std::string& path, Provenance& provenance) {
  for_each_assignment(read_text(path), path, [&](const Key& key, const std::string& value, const std::string& where) {
    set_value(key, config, value, where);
    provenance[key.name] = where;
  });
}

bool is_boolean(const std::string& name) {
  const Key* key = find_key(name);
  return key != nullptr && type_of(*key) == "true|false";
}

/// Arguments behind the command with "--text" spelt out and bare flags completed: "--run.resume" ->
/// "--run.resume=true". Boost would take the next argument for the value of such a flag.
std::vector<std::string> completed_arguments(int argc, const char* const* argv) {
  std::vector<std::string> arguments;
  for (int i = 2; i < argc; ++i) {
    std::string argument = argv[i];
    if (argument == "--text") argument = "--predict.text";
    if (argument.starts_with("--text=")) argument = "--predict.text" + argument.substr(6);
    const bool flag = argument.starts_with("--") && is_boolean(argument.substr(2));
    const std::string next = i + 1 < argc ? argv[i + 1] : "";
    if (flag && next != "true" && next != "false") {
      const bool value = !next.empty() && !next.starts_with("-");
      const bool takes_files = find_command(argv[1]) != nullptr && find_command(argv[1])->takes_files;
      if (value && !takes_files) fail_user("command line: {} {}: expected true or false", argument, next);
      argument += "=true";
    }
    arguments.push_back(std::move(argument));
  }
  return arguments;
}

options::options_description described_options() {
  options::options_description description;
  auto add = description.add_options();
  add("help", options::bool_switch());
  add("print-config", options::bool_switch());
  add("config", options::value<std::vector<std::string>>());
  add("file", options::value<std::vector<std::string>>());
  for (const auto& key : all_keys()) add(key.name.c_str(), options::value<std::vector<std::string>>());
  return description;
}

/// One line for what Boost found wrong.
[[noreturn]] void fail_syntax(const options::error& error) {
  if (const auto* fault = dynamic_cast<const options::error_with_option_name*>(&error)) {
    const std::string name = fault->get_option_name();
    if (dynamic_cast<const options::invalid_command_line_syntax*>(&error) != nullptr) {
      fail_user("command line: {}: expected a value behind it", name);
    }
  }
  fail_user("command line: {}", error.what());
}

options::parsed_options parse_arguments(const std::vector<std::string>& arguments,
                                        const options::options_description& description) {
  using namespace options::command_line_style;  // NOLINT: names of one enum
  options::positional_options_description files;
  files.add("file", -1);
  try {
    // No guessing of abbreviated names: a key added later must not change what a script means.
    return options::command_line_parser(arguments)
        .options(description)
        .positional(files)
        .style(allow_long | long_allow_adjacent | long_allow_next)
        .allow_unregistered()
        .run();
  } catch (const options::error& error) {
    fail_syntax(error);
  }
}

void check_together(const Config& config, const Provenance& provenance) {
  const auto where = [&](const char* key) {
    const auto found = provenance.find(key);
    return found == provenance.end() ? std::string("default") : found->second;
  };
  if (config.loss.margin_min > config.loss.margin_max) {
    fail_user("{}: loss.margin_min = {}: expected at most loss.margin_max = {} ({})", where("loss.margin_min"),
              config.loss.margin_min, config.loss.margin_max, where("loss.margin_max"));
  }
}

std::string ini_text(const Config& config, const std::function<bool(const Key&)>& wanted,
                     const std::function<std::string(const Key&)>& comment) {
  std::string text, section;
  for (const auto& key : all_keys()) {
    if (!wanted(key)) continue;
    if (key.section() != section) {
      section = key.section();
      text += fmt::format("{}[{}]\n", text.empty() ? "" : "\n", section);
    }
    const std::string value = value_text(key, config);
    const std::string remark = comment(key);
    text += fmt::format("{} ={}{}{}\n", key.member(), value.empty() ? "" : " ", value,
                        remark.empty() ? "" : "  # " + remark);
  }
  return text;
}

std::string resolved_ini(const Config& config, const Command& command, const Provenance& provenance) {
  const auto wanted = [&](const Key& key) {
    const auto& sections = command.sections;
    return provenance.contains(key.name) ||
           std::find(sections.begin(), sections.end(), key.section()) != sections.end();
  };
  const auto comment = [&](const Key& key) {
    const auto found = provenance.find(key.name);
    return found == provenance.end() ? std::string("default") : found->second;
  };
  return fmt::format("# vixen {}\n{}", command.name, ini_text(config, wanted, comment));
}

}  // namespace

ParsedCommand parse_command_line(int argc, const char* const* argv) {
  ParsedCommand parsed;
  const std::string first = argc > 1 ? argv[1] : "--help";
  if (first == "--help" || first == "-h" || first == "help") {
    parsed.help = true;
    return parsed;
  }
  const Command* command = find_command(first);
  if (command == nullptr) {
    std::vector<std::string> names;
    for (const auto& known : all_commands()) names.push_back(known.name);
    fail_user("unknown command {}{}: expected one of {}", first, suggestion(first, names), fmt::join(names, ", "));
  }
  parsed.config.command = first;

  const auto description = described_options();
  const auto arguments = parse_arguments(completed_arguments(argc, argv), description);
  Provenance provenance;
  std::vector<const options::option*> assignments;
  for (const auto& option : arguments.options) {
    const std::string name = option.string_key;
    if (option.position_key >= 0 || name == "file") {
      parsed.positional.push_back(option.value.at(0));
    } else if (option.unregistered) {
      auto known = key_names();
      known.insert(known.end(), {"config", "help", "print-config", "text"});
      const std::string nearest = nearest_name(name, known);
      fail_user("command line: unknown key --{}{}", name,
                nearest.empty() ? "" : fmt::format(" (did you mean --{}?)", nearest));
    } else if (name == "help") {
      parsed.help = true;
    } else if (name == "print-config") {
      parsed.print_config = true;
    } else if (name == "config") {
      for (const auto& path : option.value) {
        apply_file(parsed.config, path, provenance);
        parsed.config.files.push_back(path);
      }
    } else {
      assignments.push_back(&option);
    }
  }
  if (!command->takes_files && !parsed.positional.empty()) {
    fail_user("command line: {}: vixen {} takes --section.key VALUE only", parsed.positional.front(), command->name);
  }
  for (const auto* option : assignments) {  // after every file, wherever it stood
    const Key* key = find_key(option->string_key);
    set_value(*key, parsed.config, option->value.at(0), "command line");
    provenance[key->name] = "command line";
  }
  check_together(parsed.config, provenance);
  if (!parsed.help && !parsed.print_config) {
    for (const auto& name : command->required) {
      if (value_text(*find_key(name), parsed.config).empty())
        fail_user("vixen {} needs --{} ({})", command->name, name, find_key(name)->help);
    }
  }
  parsed.resolved_text = resolved_ini(parsed.config, *command, provenance);
  return parsed;
}

std::string to_ini(const Config& config, bool only_changed) {
  const Config defaults;
  return ini_text(
      config, [&](const Key& key) { return !only_changed || value_text(key, config) != value_text(key, defaults); },
      [](const Key&) { return std::string(); });
}

void apply_ini(Config& config, const std::string& text, const std::string& source) {
  for_each_assignment(text, source, [&](const Key& key, const std::string& value, const std::string& where) {
    set_value(key, config, value, where);
  });
}

}  // namespace vixen

// Command line and INI files to a Config, and back to INI text with the provenance of every value.
#include "config/parse.hpp"

#include <algorithm>
#include <boost/program_options.hpp>
#include <functional>
#include <map>

#include "base/check.hpp"
#include "base/file.hpp"
#include "base/file_kind.hpp"
#include "base/text.hpp"
#include "config/ini.hpp"
#include "config/keys.hpp"
#include "config/run_settings.hpp"

namespace vixen {
namespace {

namespace options = boost::program_options;

using Provenance = std::map<std::string, std::string>;  // key -> where its value came from

void apply_file(ParsedCommand& parsed, const std::string& path, Provenance& provenance) {
  const std::string text = read_text(path);
  // A pointer, page or archive is named as what it is; any line of a text is judged below.
  const std::string kind = what_it_is(path);
  if (kind.starts_with("a ") || kind.starts_with("an HTML") || kind.starts_with("an XML"))
    fail_user("{}: found {}, expected an INI file", shown(path), kind);
  std::map<std::string, std::string> lines;  // of this file: key -> where it was set last
  const auto set = [&](const Key& key, const std::string& value, const std::string& where) {
    set_value(key, parsed.config, value, where);
    // The later of two lines wins; --print-config shows both.
    const auto [earlier, first] = lines.emplace(key.name, where);
    provenance[key.name] = first ? where : fmt::format("{} (instead of {})", where, earlier->second);
    earlier->second = where;
  };
  for (auto& warning : for_each_assignment(text, path, set)) parsed.warnings.push_back(std::move(warning));
}

bool is_boolean(const std::string& name) {
  const Key* key = find_key(name);
  return key != nullptr && type_of(*key) == "true|false";
}

bool is_option(const std::string& argument) {
  if (!argument.starts_with("--")) return false;
  const std::string name = argument.substr(2, argument.find('=') - 2);
  return name == "config" || name == "help" || name == "version" || name == "print-config" || name == "text" ||
         find_key(name) != nullptr;
}

/// "--section.key" of a value that is the next argument.
bool takes_value(const std::string& argument) {
  return is_option(argument) && (argument == "--config" || find_key(argument.substr(2)) != nullptr) &&
         !is_boolean(argument.substr(2));
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
    if (argument.starts_with("\u2013") || argument.starts_with("\u2014") || argument.starts_with("\u2212"))
      fail_user("command line: {}: found the dash of a word processor, expected --", shown(argument));
    if (takes_value(argument) && is_option(next))
      fail_user("command line: {}: found {} behind it, expected a value", argument, next);
    if (flag && next != "true" && next != "false") {
      const bool value = !next.empty() && !next.starts_with("-");
      const bool takes_files = find_command(argv[1]) != nullptr && find_command(argv[1])->takes_files;
      if (value && !takes_files) fail_user("command line: {} {}: expected true or false", argument, shown(next));
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
  add("version", options::bool_switch());
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
      fail_user("command line: {}: expected a value behind it", shown(name));
    }
  }
  fail_user("command line: {}", shown(error.what()));
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
  const auto& mining = config.mining;
  const bool mines = config.command == "mine";
  if (mining.columns == 0 && !mines) return;
  if (mines && config.mine.k > mining.depth)
    fail_user("{}: mine.k = {}: expected at most mining.depth = {} ({})", where("mine.k"), config.mine.k, mining.depth,
              where("mining.depth"));
  if (mines && config.mine.k == 0 && config.mine.format == MineFormat::kTuple)
    fail_user("{}: mine.k = 0: expected at least 1, for every line has k negatives (mine.format = n-tuple, {})",
              where("mine.k"), where("mine.format"));
  if (!mines && mining.depth * config.train.batch_size < mining.columns)
    fail_user(
        "{}: mining.depth = {}: expected at least {}: a batch of {} queries gives {} columns (mining.columns, {})",
        where("mining.depth"), mining.depth, (mining.columns + config.train.batch_size - 1) / config.train.batch_size,
        config.train.batch_size, mining.columns, where("mining.columns"));
  if (mining.skip_first >= mining.depth)
    fail_user("{}: mining.skip_first = {}: expected less than mining.depth = {} ({})", where("mining.skip_first"),
              mining.skip_first, mining.depth, where("mining.depth"));
}

/// UserError when an option's key is none that the command reads. In files, which commands share, such keys may be.
void refuse_other_readers(const Key& key, const Command& command) {
  if (key.read_by(command.name)) return;
  const auto& readers = key.readers;
  std::string names = readers.front();
  for (size_t i = 1; i < readers.size(); ++i) names += (i + 1 < readers.size() ? ", " : " and ") + readers[i];
  fail_user("command line: --{}: vixen {} does not read it, {} {}", key.name, command.name, names,
            readers.size() == 1 ? "does" : "do");
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
  const auto wanted = [&](const Key& key) { return provenance.contains(key.name) || key.read_by(command.name); };
  const auto comment = [&](const Key& key) {
    const auto found = provenance.find(key.name);
    if (found == provenance.end()) return std::string("default");
    return found->second + (key.read_by(command.name) ? "" : fmt::format(" (not read by {})", command.name));
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
  if (first == "--version" || first == "-V" || first == "version") {
    parsed.version = true;
    return parsed;
  }
  const Command* command = find_command(first);
  if (command == nullptr) {
    std::vector<std::string> names;
    for (const auto& known : all_commands()) names.push_back(known.name);
    fail_user("unknown command {}{}: expected one of {}", shown(first), suggestion(first, names),
              fmt::join(names, ", "));
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
      if (const RetiredKey* old = find_retired_key(name))
        fail_user("command line: --{} is no key any more ({}): leave it out", name, old->reason);
      auto known = key_names();
      known.insert(known.end(), {"config", "help", "version", "print-config", "text"});
      const std::string nearest = nearest_name(name, known);
      fail_user("command line: unknown key --{}{}", shown(name),
                nearest.empty() ? "" : fmt::format(" (did you mean --{}?)", nearest));
    } else if (name == "help") {
      parsed.help = true;
    } else if (name == "version") {
      parsed.version = true;
    } else if (name == "print-config") {
      parsed.print_config = true;
    } else if (name == "config") {
      for (const auto& path : option.value) {
        apply_file(parsed, path, provenance);
        parsed.config.files.push_back(path);
      }
    } else {
      assignments.push_back(&option);
    }
  }
  if (!command->takes_files && !parsed.positional.empty()) {
    fail_user("command line: {}: vixen {} takes --section.key VALUE only", shown(parsed.positional.front()),
              command->name);
  }
  for (const auto* option : assignments) {  // after every file, wherever it stood
    const Key* key = find_key(option->string_key);
    refuse_other_readers(*key, *command);
    refuse_curly_quotes(option->value.at(0), "command line: --" + key->name);
    set_value(*key, parsed.config, option->value.at(0), "command line");
    provenance[key->name] = "command line";
  }
  check_together(parsed.config, provenance);
  if (!parsed.help && !parsed.version && !parsed.print_config) {
    for (const auto& name : command->required) {
      if (value_text(*find_key(name), parsed.config).empty())
        fail_user("vixen {} needs --{} ({})", command->name, name, find_key(name)->help);
    }
  }
  parsed.resolved_text = resolved_ini(parsed.config, *command, provenance);
  parsed.config = read_by(command->name, parsed.config);
  return parsed;
}

std::string to_ini(const Config& config, bool only_changed) {
  const Config defaults;
  return ini_text(
      config, [&](const Key& key) { return !only_changed || value_text(key, config) != value_text(key, defaults); },
      [](const Key&) { return std::string(); });
}

std::vector<std::string> apply_ini(Config& config, const std::string& text, const std::string& source) {
  return for_each_assignment(text, source, [&](const Key& key, const std::string& value, const std::string& where) {
    set_value(key, config, value, where);
  });
}

}  // namespace vixen

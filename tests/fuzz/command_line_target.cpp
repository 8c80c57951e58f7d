// Command lines: the arguments behind the program's name, each ended by a zero byte. What is resolved reads back.
#include "base/check.hpp"
#include "config/keys.hpp"
#include "config/parse.hpp"
#include "fuzz/target.hpp"

namespace vixen::fuzz {
namespace {

std::string line(const std::vector<std::string>& arguments) {
  std::string text;
  for (const auto& argument : arguments) text += argument + '\0';
  return text;
}

std::vector<std::string> seeds() {
  return {line({"embed", "--out", "o.h5", "--embed.side=labels", "--train.seed", "3", "--embed.prototypes",
                "--model.compute", "bf16", "--data.images=false"}),
          line({"train", "--run.dir", "r # 1", "--print-config", "--evaluate.k", "3", "--train.seed=9", "--train.lr",
                "0.25", "--run.resume", "false", "--cluster.double_at", "3,4"}),
          line({"inspect", "a.h5", "--run.log_level", "debug", "run/"}),
          line({"plan", "--version"}),
          line({"predict", "--text", "--out", "x"}),
          line({"bench", "--help"}),
          line({"search", "--search.corpus", "a", "--search.queries", "b", "--out", "c"})};
}

void read(const std::string& input) {
  std::vector<std::string> arguments = {"vixen"};
  for (size_t begin = 0; begin < input.size();) {
    const size_t end = std::min(input.find('\0', begin), input.size());
    arguments.push_back(input.substr(begin, end - begin));
    begin = end + 1;
  }
  std::vector<const char*> argv;
  argv.reserve(arguments.size());
  for (const auto& argument : arguments) argv.push_back(argument.c_str());
  const ParsedCommand parsed = parse_command_line(static_cast<int>(argv.size()), argv.data());
  if (parsed.version) return;
  if (parsed.help) {
    help_text(parsed.config.command);
    return;
  }
  Config again;
  apply_ini(again, parsed.resolved_text, "resolved");
  VIXEN_CHECK(to_ini(again, false) == to_ini(parsed.config, false), "resolved text reads back otherwise: {}",
              parsed.resolved_text);
}

std::string mutate(const std::string& input, Random& random) {
  static const Words words = [] {
    const std::string end(1, '\0');
    Words list = {end,    "--",    "-",     "=", "--help" + end, "--text" + end, "--print-config" + end,
                  "true", "false", "--file"};
    for (const auto& key : all_keys()) {
      list.push_back("--" + key.name + end);
      list.push_back("--" + key.name + "=");
    }
    for (const auto& command : all_commands()) list.push_back(command.name + end);
    return list;
  }();
  return mutate_text(input, random, words);
}

}  // namespace

const Target kCommandLine = {"command_line", seeds, read, mutate};

}  // namespace vixen::fuzz

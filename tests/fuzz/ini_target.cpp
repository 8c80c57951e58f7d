// INI texts: what is read is the same when it is written and read again.
#include "base/check.hpp"
#include "config/keys.hpp"
#include "config/parse.hpp"
#include "fuzz/target.hpp"

namespace vixen::fuzz {
namespace {

std::vector<std::string> seeds() {
  return {to_ini(Config(), false),
          "; first\r\ndevice=cuda\r\n\r\n[train]  # behind\r\n  lr = 1e-3  ; more\r\n[data]\r\npath = /a#b/\"c\"  # d\n"
          "[run]\ndir = \" x # y \\\"z\"\n",
          "[cluster]\ndouble_at = 1, 2,3\n[model]\ncompute = bf16\n[loss]\nmargin_min = 0.1\n"};
}

void read(const std::string& input) {
  Config config;
  apply_ini(config, input, "input.ini");
  const std::string text = to_ini(config, false);
  Config again;
  apply_ini(again, text, "again.ini");
  VIXEN_CHECK(to_ini(again, false) == text, "an INI text changes when it is written and read again: {}", text);
}

std::string mutate(const std::string& input, Random& random) {
  static const Words words = [] {
    Words list = {"[", "]", "=", "#", ";", "\"", "\\", "\r\n", "true", "false", "1,2", "auto", "[train]\n", "[run]\n"};
    for (const auto& key : all_keys()) list.push_back(key.member());
    return list;
  }();
  return mutate_text(input, random, words);
}

}  // namespace

const Target kIni = {"ini", seeds, read, mutate};

}  // namespace vixen::fuzz

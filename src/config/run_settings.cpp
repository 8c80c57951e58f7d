// Copies of the keys that a fact of the table holds for.
#include "config/run_settings.hpp"

#include "config/keys.hpp"
#include "config/parse.hpp"

namespace vixen {

Config read_by(std::string_view command, const Config& config) {
  Config kept;
  kept.command = config.command;
  kept.files = config.files;
  for (const auto& key : all_keys())
    if (key.read_by(command)) copy_value(key, config, kept);
  return kept;
}

std::string decisive_settings(const Config& config) {
  Config kept;
  for (const auto& key : all_keys())
    if (key.facts & kDecisive) copy_value(key, config, kept);
  return to_ini(kept, /*only_changed=*/false);
}

void take_model_settings(const Config& run, Config& config) {
  for (const auto& key : all_keys())
    if (key.facts & kOfModel) copy_value(key, run, config);
}

}  // namespace vixen

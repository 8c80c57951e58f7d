// Parts of a configuration, by what the key table says of its keys.
#pragma once

#include <string>
#include <string_view>

#include "config/config.hpp"

namespace vixen {

/// The configuration with the keys that the command reads; all others have their defaults.
Config read_by(std::string_view command, const Config& config);

/// The settings that a run may not change between its parts, all that decide its numbers, as the INI text that
/// checkpoints store: every key in it, those that decide nothing with their defaults.
std::string decisive_settings(const Config& config);

/// Takes over from a run's configuration the keys that its model is read with.
void take_model_settings(const Config& run, Config& config);

}  // namespace vixen

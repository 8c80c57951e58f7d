// Logging: one logger for the process (spdlog), on stderr, prefixed with the rank when there are several.
#pragma once

#include <spdlog/spdlog.h>

#include <string>

namespace vixen {

/// Sets pattern and level ("debug" .. "error"). Ranks above 0 log warnings and errors only, unless level is "debug".
void init_log(int rank, int world_size, const std::string& level);

}  // namespace vixen

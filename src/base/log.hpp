// Logging: one logger for the process (spdlog), on stderr, prefixed with the rank when there are several.
#pragma once

#include <spdlog/spdlog.h>

#include "base/log_level.hpp"

namespace vixen {

/// Sets pattern and level. Once a process, when its rank is known. Ranks above 0 log warnings and errors only, unless
/// the level is kDebug.
void init_log(int rank, int world_size, LogLevel level);

}  // namespace vixen

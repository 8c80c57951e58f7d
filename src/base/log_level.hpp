// The least severe message that the log shows.
#pragma once

namespace vixen {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

}  // namespace vixen

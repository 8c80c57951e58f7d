// The program's version, which CMakeLists.txt takes from tools/vixen_tools/__init__.py.
#pragma once

#include <string>
#include <string_view>

namespace vixen {

/// "0.1.0"
const char* version();

/// "vixen embed 0.1.0": what a file or folder says it was made by, and by what made_by_vixen knows it again.
std::string created_by(std::string_view command);

}  // namespace vixen

// The program's version, which CMakeLists.txt takes from tools/vixen_tools/__init__.py.
#pragma once

#include <string>
#include <string_view>

namespace vixen {

/// "0.1.0"
const char* version();

/// "vixen embed 0.1.0": what a file or folder says it was made by, and how made_by_vixen recognises it.
std::string created_by(std::string_view command);

}  // namespace vixen

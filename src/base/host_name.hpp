// What this machine is called.
#pragma once

#include <string>

namespace vixen {

std::string host_name();

}  // namespace vixen

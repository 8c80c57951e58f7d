// The version that the build was configured with.
#include "base/version.hpp"

namespace vixen {

const char* version() {
  return VIXEN_VERSION;
}

std::string created_by(std::string_view command) {
  return "vixen " + std::string(command) + " " + version();
}

}  // namespace vixen

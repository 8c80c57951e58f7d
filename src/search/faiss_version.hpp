// The FAISS that this program was built with.
#pragma once

#include <string>

namespace vixen {

/// "1.7.3"
std::string faiss_version();

}  // namespace vixen

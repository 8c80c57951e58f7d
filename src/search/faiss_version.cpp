#include "search/faiss_version.hpp"

#include <faiss/Index.h>
#include <fmt/format.h>

namespace vixen {

std::string faiss_version() {
  return fmt::format("{}.{}.{}", FAISS_VERSION_MAJOR, FAISS_VERSION_MINOR, FAISS_VERSION_PATCH);
}

}  // namespace vixen

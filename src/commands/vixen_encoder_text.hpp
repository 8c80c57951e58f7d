// tools/vixen_encoder.py, which the binary carries: the loader that `vixen export` puts beside a model.
#pragma once

#include <string_view>

namespace vixen {

/// The file's text; the build generates the definition (cmake/EmbedText.cmake).
extern const std::string_view kVixenEncoderPython;

}  // namespace vixen

// What can be known from options, folders and headers before the work: checked once, for every command.
#pragma once

#include "config/config.hpp"

namespace vixen {

/// UserError for outputs that must not or cannot be written, and for options that could only fail at the end. Local:
/// one process asks for all. Leaves nothing on disk: whether a file can be made is tried by making
/// one, which is removed.
void preflight(const Config& config);

}  // namespace vixen

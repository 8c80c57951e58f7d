// Sums over ranks as the double of NCCL makes them: in the order of the ranks, so that every rank has the same bits.
#pragma once

#include <nccl.h>

#include <cstddef>
#include <vector>

namespace vixen::doubles {

/// Bytes of an element; 0 for a type that the double does not sum or carry.
size_t bytes_of(ncclDataType_t type);

/// target[i] = sources[0][i] + sources[1][i] + ..., `elements` of them; float16 and bfloat16 are added in float32.
/// target may be one of the sources.
void add_in_order(ncclDataType_t type, const std::vector<const char*>& sources, char* target, size_t elements);

}  // namespace vixen::doubles

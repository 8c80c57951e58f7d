// Inverted lists of product codes by FAISS (Jégou, Douze and Schmid, PAMI 2011): the sizes that are chosen.
#pragma once

#include <cstdint>

#include "config/config.hpp"

namespace vixen {

/// What an IVF-PQ index over some rows consists of.
struct IvfPqSizes {
  /// With fewer rows nothing can be learnt: they are scanned as they are.
  static constexpr int64_t kLeastRows = 1024;

  int64_t lists = 0;         // 0: too few rows
  int64_t probes = 0;        // lists that are read for a query
  int64_t code_bytes = 0;    // of a row; 0: too few rows
  int64_t padded_width = 0;  // width with zeros behind, so that every byte of a code covers as many dimensions
};

/// lists: search.nlist, 0: 4 sqrt(rows); at most rows / 39, as k-means wants 39 points a centroid. probes:
/// search.nprobe, 0: 2 sqrt(lists), at least 16; at most `lists`. code_bytes: search.pq_bytes, 0: width / 4, at least
/// 1; UserError where it is more than the width.
IvfPqSizes ivf_pq_sizes(const IndexConfig& config, int64_t rows, int64_t width);

}  // namespace vixen

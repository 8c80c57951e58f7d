// Labels of one data set among those of another: equal when their tokens are, which are what the encoder reads.
#pragma once

#include "data/dataset.hpp"
#include "shard/row_shards.hpp"

namespace vixen {

/// Which labels of a corpus read like a data set's. Both tables come from the same tokenizer.
class SameLabels {
 public:
  /// Memory: 8 bytes a label and 4 a match; 16 a label of the corpus while it is made. Local.
  SameLabels(const SequenceTable& labels, const SequenceTable& corpus);

  /// Of every row of `range` of `labels_of`, which names labels of the data set: the labels of the corpus that read
  /// like one of them, ascending and distinct. Local.
  OwnedRagged of(const Ragged<int32_t>& labels_of, RowRange range) const;

 private:
  OwnedRagged same_;  // of every label of the data set: labels of the corpus, ascending
};

}  // namespace vixen

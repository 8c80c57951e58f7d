// Passes of the encoder over whole tables, before the first step and after the last.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <optional>
#include <string>

#include "train/training_parts.hpp"

namespace vixen {

/// Wall seconds of the passes before the first step.
struct FirstPassSeconds {
  double labels = 0, clusters = 0, queries = 0, centroids = 0;
};

/// Before the first step: clusters and free vectors, query bank, centroids. Nothing where the objective has no
/// prototypes. Collective.
FirstPassSeconds first_passes(TrainingParts& parts);

/// After the last step: embeds all training queries anew, where the centroids (made of it) or the bank that is kept
/// with the model (run.query_bank) need it. Collective.
void last_pass(TrainingParts& parts);

/// Unit rows that represent this rank's labels in a search [local labels, D]: their prototypes, or their embeddings.
/// Collective.
at::Tensor label_representations(TrainingParts& parts);

/// Unit rows of this rank's labels as section [mining] searches them [local labels, D]. fill_bank: the label bank,
/// where there is one, holds nothing yet: it is filled by a pass. Collective.
at::Tensor labels_to_mine(TrainingParts& parts, bool fill_bank);

/// Mines hard negatives of all training queries from the bank into parts.mined, as section [mining] says. fill_bank:
/// see labels_to_mine(). stop: see Miner::mine; returns none, and the lists are in part new, when it stopped the pass.
/// Collective.
std::optional<MinedCounts> mine_negatives(TrainingParts& parts, bool fill_bank, const std::function<bool()>& stop);

}  // namespace vixen

// What a model folder says about the way from its outputs to an embedding: sentence-transformers' modules and pooling,
// vixen's own exports, and the mask of config.json.
#pragma once

#include "config/config.hpp"

namespace vixen {

/// `model` with pooling and mask settled: where model.pooling is auto, what the folders say (of the adapter, where
/// there is one, then of the model), else the mean; a mask that is auto becomes bidirectional in a decoder whose
/// config.json says is_causal = false. A key that was given wins, with a line in the log where a folder says
/// something else.
///
/// Read are modules.json, the pooling module's config.json (both forms), sentence_bert_config.json and
/// config_sentence_transformers.json of sentence-transformers, vixen_config.json, and auto_map and is_causal of
/// config.json. Normalize changes nothing: embeddings are always compared by their cosine. UserError, one line that
/// names file and key and the key that overrides it, where a folder asks for what this program does not do: other
/// modules (Dense), other poolings (max, weighted mean, several side by side), a prompt in front of every text, texts
/// in lower case, code of its own.
ModelConfig with_folder_settings(const ModelConfig& model, const LoraConfig& lora);

}  // namespace vixen

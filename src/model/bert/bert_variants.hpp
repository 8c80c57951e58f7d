// The BERT-like architectures: one network, a row of traits and names each. A variant is added by a row here and a
// sample in tests/unit/variants_test.cpp.
#pragma once

#include <string_view>

#include "model/variants.hpp"

namespace vixen {

/// Keys of config.json. "" where the architecture has no such key.
struct BertKeys {
  std::string_view width, heads, feed_forward, layers, activation, hidden_dropout, attention_dropout;
  std::string_view types;     // rows of the type embeddings, 2 where config.json is silent; "": there are none
  std::string_view norm_eps;  // "": 1e-12
};

/// Modules of a layer behind "<layers>I.": Hugging Face's names, and ours of the fused projection.
struct BertModules {
  std::string_view layers;
  std::string_view qkv, query, key, value, out, norm1, ff1, ff2, norm2;
};

struct BertVariant {
  std::string_view model_type;   // of config.json
  std::string_view model_class;  // of transformers, written into a saved config.json
  std::string_view prefix;       // what a checkpoint with a task head puts before the tensors' names
  bool drops_attention_output;   // hidden dropout behind Wo too
  BertKeys keys;
  BertModules modules;
};

inline constexpr BertVariant kBertVariants[] = {
    {.model_type = "bert",
     .model_class = "BertModel",
     .prefix = "bert.",
     .drops_attention_output = true,
     .keys = {.width = "hidden_size",
              .heads = "num_attention_heads",
              .feed_forward = "intermediate_size",
              .layers = "num_hidden_layers",
              .activation = "hidden_act",
              .hidden_dropout = "hidden_dropout_prob",
              .attention_dropout = "attention_probs_dropout_prob",
              .types = "type_vocab_size",
              .norm_eps = "layer_norm_eps"},
     .modules = {.layers = "encoder.layer.",
                 .qkv = "attention.self.qkv",
                 .query = "attention.self.query",
                 .key = "attention.self.key",
                 .value = "attention.self.value",
                 .out = "attention.output.dense",
                 .norm1 = "attention.output.LayerNorm",
                 .ff1 = "intermediate.dense",
                 .ff2 = "output.dense",
                 .norm2 = "output.LayerNorm"}},
    {.model_type = "distilbert",
     .model_class = "DistilBertModel",
     .prefix = "distilbert.",
     .drops_attention_output = false,
     .keys = {.width = "dim",
              .heads = "n_heads",
              .feed_forward = "hidden_dim",
              .layers = "n_layers",
              .activation = "activation",
              .hidden_dropout = "dropout",
              .attention_dropout = "attention_dropout",
              .types = "",
              .norm_eps = ""},
     .modules = {.layers = "transformer.layer.",
                 .qkv = "attention.qkv_lin",
                 .query = "attention.q_lin",
                 .key = "attention.k_lin",
                 .value = "attention.v_lin",
                 .out = "attention.out_lin",
                 .norm1 = "sa_layer_norm",
                 .ff1 = "ffn.lin1",
                 .ff2 = "ffn.lin2",
                 .norm2 = "output_layer_norm"}},
};

}  // namespace vixen

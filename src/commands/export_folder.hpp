// What the folders that `vixen export` writes have in common: a description of the model and the loader that reads it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>

#include "config/config.hpp"
#include "data/dataset.hpp"
#include "data/packed_batch.hpp"
#include "model/encoder.hpp"

namespace vixen {

/// How texts and pictures become an embedding: what the weights do not say.
struct ModelDescription {
  ModelConfig model;      // pooling, mask, fusion
  TemplateConfig prompt;  // the template's strings
  PackOptions pack;       // its token ids, order, numbering; whether pictures are taken
  bool decoder = false;
  int64_t layers = 0;
  int64_t image_width = 0;  // I; 0: takes no pictures
  int64_t max_length = 0;   // tokens of a text, special ones included

  bool late_fusion() const { return model.fusion == Fusion::kLate; }
  bool causal() const { return model.mask == Mask::kCausal || (model.mask == Mask::kAuto && decoder); }
};

/// Of a run's configuration and data set, and the encoder made from them.
ModelDescription describe_model(const Config& config, const Encoder& encoder, const Dataset& dataset);

/// Writes vixen_config.json and vixen_encoder.py, which loads the folder in Python.
void write_loader(const std::filesystem::path& folder, const ModelDescription& description);

/// Writes README.md: what the folder is and the lines of Python that load it.
void write_readme(const std::filesystem::path& folder, ExportFormat format, const ModelDescription& description);

/// Makes a merged Hugging Face folder one that SentenceTransformer loads: plain modules (transformer, mean pooling,
/// normalisation) where they do the same, else vixen_encoder.py as a module (trust_remote_code=True).
void write_sentence_transformers(const std::filesystem::path& folder, const ModelDescription& description);

/// A JSON file, atomically.
void write_json(const std::filesystem::path& path, const nlohmann::ordered_json& json);

/// Whether sentence-transformers' own modules give the embeddings: an encoder on text alone, without a prompt, mean
/// pooled.
bool is_plain(const ModelDescription& description);

}  // namespace vixen

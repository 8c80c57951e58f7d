// The weights of a folder: an index and the two shards it names, or (empty index) one file.
#include <ATen/ATen.h>

#include "base/file.hpp"
#include "fuzz/target.hpp"
#include "model/weights/weight_files.hpp"

namespace vixen::fuzz {
namespace {

constexpr const char* kFirst = "model-00001-of-00002.safetensors";
constexpr const char* kSecond = "model-00002-of-00002.safetensors";

std::string file_of(const std::map<std::string, at::Tensor>& tensors) {
  const auto path = scratch() / "seed.safetensors";
  write_safetensors(path, tensors, {{"format", "pt"}});
  return read_text(path);
}

std::vector<std::string> seeds() {
  const std::string first =
      file_of({{"embed.weight", at::arange(8, at::kFloat).view({4, 2})}, {"norm", at::ones({2})}});
  const std::string second = file_of({{"layer.weight", at::ones({2, 2}).to(at::kBFloat16)}});
  const std::string index = R"({
  "metadata": {"total_size": 48},
  "weight_map": {
    "embed.weight": "model-00001-of-00002.safetensors",
    "norm": "model-00001-of-00002.safetensors",
    "layer.weight": "model-00002-of-00002.safetensors"
  }
})";
  return {bundle({index, first, second}), bundle({"", first, second})};
}

void read(const std::string& input) {
  const auto folder = scratch() / "weights";
  std::filesystem::remove_all(folder);
  std::filesystem::create_directory(folder);
  const auto parts = unbundle(input, 3);
  if (!parts[0].empty()) put("weights/model.safetensors.index.json", parts[0]);
  put(std::filesystem::path("weights") / (parts[0].empty() ? kWeightFile : kFirst), parts[1]);
  put(std::filesystem::path("weights") / kSecond, parts[2]);
  const WeightFiles files(folder);
  for (const std::string& name : files.names()) {
    const at::Tensor tensor = files.tensor(name);
    use(tensor.const_data_ptr(), tensor.nbytes());
    files.done_with(name);
  }
}

std::string mutate(const std::string& input, Random& random) {
  static const Words index_words = {"weight_map",       "metadata",         "norm", kFirst, kSecond,
                                    "../x.safetensors", "model.safetensors"};
  static const Words file_words = {"dtype", "shape", "data_offsets", "F32", "BF16", "I64", "norm"};
  auto parts = unbundle(input, 3);
  const size_t part = random.below(4) % 3;
  parts[part] =
      part == 0 ? mutate_json(parts[0], random, index_words) : mutate_safetensors(parts[part], random, file_words);
  return bundle(parts);
}

}  // namespace

const Target kWeightFolder = {"weight_folder", seeds, read, mutate};

}  // namespace vixen::fuzz

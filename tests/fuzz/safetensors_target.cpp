// One safetensors file: the header, and the bytes of every tensor.
#include "model/weights/safetensors.hpp"

#include <ATen/ATen.h>

#include "base/file.hpp"
#include "fuzz/target.hpp"

namespace vixen::fuzz {
namespace {

std::vector<std::string> seeds() {
  const auto path = scratch() / "seed.safetensors";
  std::vector<std::string> list;
  std::map<std::string, at::Tensor> tensors = {{"a.weight", at::arange(12, at::kFloat).view({3, 4})},
                                               {"b", at::arange(5, at::kByte)},
                                               {"c.bias", at::arange(3, at::kLong)},
                                               {"half", at::arange(6, at::kFloat).to(at::kHalf).view({2, 3})},
                                               {"none", at::empty({0, 7})},
                                               {"scalar", at::scalar_tensor(2.5, at::kDouble)}};
  write_safetensors(path, tensors, {{"format", "pt"}, {"quote\"", "line\nbreak"}});
  list.push_back(read_text(path));
  write_safetensors(path, {});
  list.push_back(read_text(path));
  write_safetensors(path, {{"only", at::ones({2}).to(at::kBFloat16)}});
  list.push_back(read_text(path));
  return list;
}

void read(const std::string& input) {
  const SafetensorsFile file(put("input.safetensors", input));
  for (const std::string& name : file.names()) {
    const at::Tensor tensor = file.tensor(name);
    use(tensor.const_data_ptr(), tensor.nbytes());
    file.done_with(name);
  }
  for (const auto& [key, value] : file.metadata()) use(value.data(), value.size());
}

std::string mutate(const std::string& input, Random& random) {
  static const Words words = {"dtype", "shape", "data_offsets", "__metadata__", "F32", "F64", "BF16", "F16", "F8_E4M3",
                              "F4",    "BOOL",  "U8",           "I64",          "U64", "C64", "b",    "half"};
  return mutate_safetensors(input, random, words);
}

}  // namespace

const Target kSafetensors = {"safetensors", seeds, read, mutate};

}  // namespace vixen::fuzz

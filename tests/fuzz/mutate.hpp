// Mutations of inputs: of bytes, of texts with words, of JSON, of bundles of several files. Each a pure function of the
// input and the random numbers, so that an input can be made again from its number.
#pragma once

#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace vixen::fuzz {

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  /// In [0, bound); 0 for bound 0.
  size_t below(size_t bound) { return bound == 0 ? 0 : static_cast<size_t>(engine_() % bound); }
  bool one_in(size_t n) { return below(n) == 0; }
  uint64_t bits() { return engine_(); }
  template <typename T>
  const T& one_of(const std::vector<T>& list) {
    return list[below(list.size())];
  }

 private:
  std::mt19937_64 engine_;  // the standard fixes its numbers
};

using Words = std::vector<std::string>;

/// Bits, bytes, integers at the edges of their types, ranges cut, doubled or moved.
std::string mutate_bytes(std::string input, Random& random);
/// The same, and words put in, numbers replaced, lines cut, doubled or swapped.
std::string mutate_text(std::string input, Random& random, const Words& words);
/// A node of the document replaced, removed, renamed (to one of `words`), moved or nested; now and then mutate_text.
/// What is no JSON is mutated as text.
std::string mutate_json(const std::string& input, Random& random, const Words& words);

/// Several files as one input: each with its length (u32) in front; the last takes what is left.
std::string bundle(const std::vector<std::string>& parts);
/// `count` parts, empty ones where the input is too short.
std::vector<std::string> unbundle(const std::string& input, size_t count);

/// safetensors: header and data apart, the header's length kept right most of the time.
std::string mutate_safetensors(const std::string& input, Random& random, const Words& words);

}  // namespace vixen::fuzz

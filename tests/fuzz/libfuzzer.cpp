// The targets under libFuzzer: --kind=NAME picks one. Its own mutations and ours take turns.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <string>

#include "fuzz/target.hpp"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

extern "C" const char* __asan_default_options() {
  return "detect_leaks=0:allocator_may_return_null=1:max_allocation_size_mb=2048:handle_abort=1";
}

namespace {

const vixen::fuzz::Target* target = nullptr;

}  // namespace

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  constexpr const char* kOption = "--kind=";
  for (int i = 1; i < *argc; ++i)
    if (std::strncmp((*argv)[i], kOption, std::strlen(kOption)) == 0)
      target = vixen::fuzz::find_target((*argv)[i] + std::strlen(kOption));
  if (target == nullptr) {
    std::fputs("usage: fuzz_readers_libfuzzer --kind=NAME [libFuzzer's options] [folders]\n", stderr);
    std::exit(2);
  }
  target->seeds();  // some targets read beside what their seeds wrote
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    vixen::fuzz::is_accepted(*target, std::string(reinterpret_cast<const char*>(data), size));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "fault: %s\n", error.what());
    std::abort();
  }
  return 0;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned int seed) {
  vixen::fuzz::Random random(seed);
  if (random.one_in(2)) return LLVMFuzzerMutate(data, size, max_size);
  std::string input = target->mutate(std::string(reinterpret_cast<const char*>(data), size), random);
  input.resize(std::min(input.size(), max_size));
  std::memcpy(data, input.data(), input.size());
  return input.size();
}

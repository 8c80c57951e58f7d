// What a fuzz target is: a reader of vixen's, example inputs for it, and a mutation that knows the input's form.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "fuzz/mutate.hpp"

namespace vixen::fuzz {

struct Target {
  const char* name;
  /// Valid inputs, small; the same on every machine.
  std::vector<std::string> (*seeds)();
  /// Reads an input as the program does. Returns: accepted. UserError: refused. Anything else is a fault.
  void (*read)(const std::string& input);
  /// One mutation of an input, well-formed where it pays.
  std::string (*mutate)(const std::string& input, Random& random);
};

const std::vector<Target>& all_targets();
/// nullptr when there is none.
const Target* find_target(std::string_view name);

/// Reads the input. True: accepted; false: refused in one line. Throws std::logic_error for everything else: another
/// exception, or a message that is no single line of printable text of reasonable length.
bool is_accepted(const Target& target, const std::string& input);

/// A folder for the files of the input under test; the same for the life of the process, removed at its end.
const std::filesystem::path& scratch();
/// Writes a file of `bytes` below scratch() and returns its path.
std::filesystem::path put(const std::filesystem::path& name, std::string_view bytes);

/// Makes the compiler compute what a reader gave.
void use(const void* data, size_t size);

// One file each: safetensors_target.cpp and so on.
extern const Target kSafetensors, kWeightFolder, kModelConfig, kAdapter, kDataset, kMatrix, kIni, kCommandLine,
    kManifest;

}  // namespace vixen::fuzz

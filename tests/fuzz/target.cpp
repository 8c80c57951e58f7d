// The list of targets, and what counts as an answer.
#include "fuzz/target.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <stdexcept>
#include <system_error>

#include "base/check.hpp"
#include "fixtures/temp_dir.hpp"

namespace vixen::fuzz {
namespace {

// A line that a terminal shows whole is short; one that quotes a name or a value from the file may be longer.
constexpr size_t kMostMessageBytes = 4000;

void check_message(const std::string& message) {
  const auto control =
      std::find_if(message.begin(), message.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; });
  if (control != message.end())
    throw std::logic_error(fmt::format("the message holds control character 0x{:02x} at byte {}",
                                       static_cast<unsigned char>(*control), control - message.begin()));
  if (message.empty() || message.size() > kMostMessageBytes)
    throw std::logic_error(fmt::format("the message has {} bytes: {}...", message.size(), message.substr(0, 200)));
}

}  // namespace

const std::vector<Target>& all_targets() {
  static const std::vector<Target> targets = {kSafetensors, kWeightFolder, kModelConfig, kAdapter, kDataset,
                                              kMatrix,      kIni,          kCommandLine, kManifest};
  return targets;
}

const Target* find_target(std::string_view name) {
  for (const Target& target : all_targets())
    if (target.name == name) return &target;
  return nullptr;
}

bool is_accepted(const Target& target, const std::string& input) {
  try {
    target.read(input);
    return true;
  } catch (const UserError& error) {
    check_message(error.what());
    return false;
  } catch (const std::exception& error) {
    throw std::logic_error(error.what());
  }
}

const std::filesystem::path& scratch() {
  static const test::TempDir folder;
  return folder.path();
}

std::filesystem::path put(const std::filesystem::path& name, std::string_view bytes) {
  auto path = scratch() / name;
  // A new file each time: a mapping of the old one that a reader kept must not change under it.
  std::filesystem::remove(path);
  std::ofstream file(path, std::ios::binary);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  file.close();
  if (!file) throw std::system_error(errno, std::generic_category(), path.string());
  return path;
}

void use(const void* data, size_t size) {
  static volatile unsigned char sum = 0;
  const auto* bytes = static_cast<const unsigned char*>(data);
  unsigned char all = 0;
  for (size_t i = 0; i < size; ++i) all = static_cast<unsigned char>(all ^ bytes[i]);
  sum = static_cast<unsigned char>(sum ^ all);
}

}  // namespace vixen::fuzz

// SHA-256 (FIPS 180-4), for file identities that other tools compute too (sha256sum, Python's hashlib).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace vixen {

/// Digest of a message given in pieces. Local, no allocation.
class Sha256 {
 public:
  void update(std::span<const std::byte> bytes);
  /// The digest as 64 lower-case hex digits. The object must not be used afterwards.
  std::string finish();

 private:
  void block(const std::byte* bytes);

  std::array<uint32_t, 8> state_ = {0x6a09e667u, 0xbb67ae85u, 0x3c6ef372u, 0xa54ff53au,
                                    0x510e527fu, 0x9b05688cu, 0x1f83d9abu, 0x5be0cd19u};
  std::array<std::byte, 64> pending_ = {};
  uint64_t length_bytes_ = 0;
};

/// The digest of one message, as hex.
std::string sha256(std::span<const std::byte> bytes);

}  // namespace vixen

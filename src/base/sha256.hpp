// SHA-256 (FIPS 180-4) by OpenSSL, for file identities that other tools compute too (sha256sum, Python's hashlib).
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

struct evp_md_ctx_st;  // OpenSSL's EVP_MD_CTX: its headers stay in sha256.cpp

namespace vixen {

/// Digest of a message given in pieces. Local.
class Sha256 {
 public:
  Sha256();
  void update(std::span<const std::byte> bytes);
  /// The digest as 64 lower-case hex digits. The object must not be used afterwards.
  std::string finish();

 private:
  struct Free {
    void operator()(evp_md_ctx_st* context) const;
  };
  std::unique_ptr<evp_md_ctx_st, Free> context_;
};

/// The digest of one message, as hex.
std::string sha256(std::span<const std::byte> bytes);

}  // namespace vixen

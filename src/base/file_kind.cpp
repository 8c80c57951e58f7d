// Signatures of the files that lie where another kind was expected.
#include "base/file_kind.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <string_view>

#include "base/text.hpp"

namespace vixen {
namespace {

using namespace std::string_view_literals;

constexpr size_t kRead = 1024;

struct Signature {
  size_t at;
  std::string_view bytes;
  const char* kind;
};

constexpr Signature kSignatures[] = {
    {0, "version https://git-lfs.github.com/spec/"sv,
     "a Git LFS pointer, not the file itself (run `git lfs pull` where it came from)"},
    {0, "\x89HDF\r\n\x1a\n"sv, "an HDF5 file"},
    {0, "PK\3\4"sv, "a zip archive (torch.save and .npz files are such)"},
    {0, "PK\5\6"sv, "an empty zip archive"},
    {0, "\x1f\x8b"sv, "gzip data: unpack it first"},
    {0, "\x28\xb5\x2f\xfd"sv, "zstd data: unpack it first"},
    {0,
     "\xfd"
     "7zXZ\0"sv,
     "xz data: unpack it first"},
    {0, "BZh"sv, "bzip2 data: unpack it first"},
    {0, "7z\xbc\xaf\x27\x1c"sv, "a 7z archive"},
    {257, "ustar"sv, "a tar archive"},
    {0, "\x93NUMPY"sv, "a NumPy array (.npy)"},
    {0, "GGUF"sv, "a GGUF file"},
    {0, "PAR1"sv, "a Parquet file"},
    {0, "ARROW1"sv, "an Arrow file"},
    {0, "CDF\1"sv, "a netCDF-3 file"},
    {0, "CDF\2"sv, "a netCDF-3 file"},
    {0, "SQLite format 3"sv, "an SQLite database"},
    {0, "MATLAB 5.0"sv, "a MATLAB 5 file"},
    {0, "%PDF-"sv, "a PDF document"},
    {0, "\x89PNG\r\n\x1a\n"sv, "a PNG picture"},
    {0, "\xff\xd8\xff"sv, "a JPEG picture"},
    {0,
     "\x7f"
     "ELF"sv,
     "a program"},
    {0, "\x80\2"sv, "a Python pickle"},
    {0, "\x80\3"sv, "a Python pickle"},
    {0, "\x80\4"sv, "a Python pickle"},
    {0, "\x80\5"sv, "a Python pickle"},
};

bool begins_like(std::string_view text, std::string_view lower_case) {
  return text.size() >= lower_case.size() &&
         std::equal(lower_case.begin(), lower_case.end(), text.begin(),
                    [](char a, char b) { return a == std::tolower(static_cast<unsigned char>(b)); });
}

/// Header length, then '{': how every safetensors file begins.
bool is_safetensors(std::string_view head, uintmax_t file_bytes) {
  uint64_t header_bytes = 0;
  if (head.size() < 10 || head[8] != '{') return false;
  std::memcpy(&header_bytes, head.data(), sizeof header_bytes);
  return header_bytes >= 2 && header_bytes <= file_bytes - 8;
}

bool is_text(std::string_view head) {
  while (!head.empty()) {
    const auto [code, bytes] = first_character(head);
    // The last character may be cut by our reading.
    if (bytes == 0) return head.size() < 4 && static_cast<unsigned char>(head[0]) >= 0xC2;
    if (code < 0x20 && code != '\t' && code != '\n' && code != '\r' && code != '\f') return false;
    head.remove_prefix(bytes);
  }
  return true;
}

}  // namespace

std::string what_it_is(const std::filesystem::path& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (std::filesystem::is_directory(status)) return "a folder";
  if (!std::filesystem::is_regular_file(status)) return std::filesystem::exists(status) ? "not a regular file" : "";
  std::ifstream file(path, std::ios::binary);
  if (!file) return "";
  std::string buffer(kRead, '\0');
  file.read(buffer.data(), static_cast<std::streamsize>(buffer.size()));
  buffer.resize(static_cast<size_t>(file.gcount()));
  const std::string_view head = buffer;
  if (head.empty()) return "an empty file";
  for (const auto& signature : kSignatures)
    if (head.size() >= signature.at + signature.bytes.size() &&
        head.substr(signature.at, signature.bytes.size()) == signature.bytes)
      return signature.kind;
  if (is_safetensors(head, std::filesystem::file_size(path, error))) return "a safetensors file";
  if (std::all_of(head.begin(), head.end(), [](char c) { return c == '\0'; }))
    return "zero bytes where its beginning should be (a copy or download that was cut off?)";
  if (!is_text(head)) return "";
  std::string_view text = head;
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  text.remove_prefix(std::min(text.size(), text.find_first_not_of(" \t\r\n")));
  for (const auto start : {"<!doctype html"sv, "<html"sv, "<head"sv, "<body"sv})
    if (begins_like(text, start)) return "an HTML page (a download that was refused?)";
  if (text.starts_with("<?xml") || begins_like(text, "<error>"))
    return "an XML document (a download that was refused?)";
  const std::string_view line = text.substr(0, text.find_first_of("\r\n"));
  if (line.empty()) return "blank text";
  return fmt::format("text that begins '{}'", shown(line, 40));
}

std::string found_instead(const std::filesystem::path& path) {
  const std::string kind = what_it_is(path);
  return kind.empty() ? "" : ", found " + kind;
}

}  // namespace vixen

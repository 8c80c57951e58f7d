#include "commands/shared_file.hpp"

#include <ATen/ATen.h>

#include <cstring>
#include <memory>
#include <numeric>
#include <vector>

#include "base/atomic_file.hpp"
#include "base/check.hpp"
#include "base/log.hpp"
#include "comm/on_root.hpp"

namespace vixen {
namespace {

constexpr int64_t kTextRows = 1024;

// The file that rank 0 has made, where this rank sees it: the same inode and size, not only the same name.
std::unique_ptr<PieceWriter> open_if_seen(const std::filesystem::path& path, const std::filesystem::path& temporary,
                                          Communicator& comm) {
  std::unique_ptr<PieceWriter> own;
  std::string identity;
  on_root(comm, [&] {
    own = std::make_unique<PieceWriter>(temporary, path);
    identity = own->identity();
  });
  identity = comm.broadcast_host(identity, 0);
  const std::filesystem::path there = comm.broadcast_host(temporary.string(), 0);
  if (comm.rank() == 0) return own;
  try {
    own = std::make_unique<PieceWriter>(there, path);
    if (own->identity() == identity) return own;
  } catch (const UserError&) {  // no such file on this node
  }
  return nullptr;
}

}  // namespace

void write_pieces(const std::filesystem::path& path, const std::filesystem::path& temporary, Communicator& comm,
                  const NextPiece& next) {
  const auto own = open_if_seen(path, temporary, comm);
  const auto seen = comm.all_gather_host(static_cast<int64_t>(own != nullptr));
  // A fault must not leave others waiting in a collective: the first is kept and shared at the end.
  std::string fault;
  const auto unless_fault = [&](const std::function<void()>& work) {
    if (!fault.empty()) return;
    try {
      work();
    } catch (const UserError& error) {
      fault = error.what();
    }
  };
  if (own) {
    bool more = true;
    while (more && fault.empty())
      unless_fault([&] {
        const auto piece = next();
        more = piece.has_value();
        if (piece) own->write(piece->offset, piece->bytes());
      });
  }
  for (int rank = 1; rank < comm.world_size(); ++rank) {
    if (seen[static_cast<size_t>(rank)] != 0) continue;
    if (comm.rank() == 0) spdlog::debug("rank {} does not see {}: its part is written by rank 0", rank, path.string());
    while (true) {
      std::optional<FilePiece> piece;
      if (comm.rank() == rank) unless_fault([&] { piece = next(); });
      const int64_t offset = comm.all_gather_host(piece ? piece->offset : -1)[static_cast<size_t>(rank)];
      if (offset < 0) break;
      const auto bytes = comm.all_gather_host(piece ? std::ssize(piece->bytes()) : 0);
      std::vector<int64_t> send(bytes.size(), 0), receive(bytes.size(), 0);
      if (piece) send[0] = bytes[static_cast<size_t>(rank)];
      if (comm.rank() == 0) receive[static_cast<size_t>(rank)] = bytes[static_cast<size_t>(rank)];
      auto sent = at::empty({piece ? send[0] : 0}, at::kByte);
      if (piece && send[0] > 0)
        std::memcpy(sent.mutable_data_ptr(), piece->values.const_data_ptr(), static_cast<size_t>(send[0]));
      const auto arrived = comm.all_to_all_rows(sent.to(comm.device()), send, receive).cpu();
      if (comm.rank() == 0) unless_fault([&] { own->write(offset, FilePiece{offset, arrived}.bytes()); });
    }
  }
  on_every_rank(comm, [&] {
    if (!fault.empty()) throw UserError(fault);
    if (own) own->sync();
  });
}

void write_text_rows(const std::filesystem::path& path, const std::string& header, const RowShards& shards,
                     Communicator& comm, const std::function<void(int64_t i, std::string& text)>& text_of) {
  const int64_t rows = shards.range(comm.rank()).size();
  const bool leads = comm.rank() == 0;
  const auto text_from = [&](int64_t first) {
    std::string text = leads && first == 0 ? header : std::string();
    for (int64_t i = first; i < std::min(rows, first + kTextRows); ++i) text_of(i, text);
    return text;
  };
  const int64_t parts = std::max<int64_t>(1, (rows + kTextRows - 1) / kTextRows);
  std::vector<int64_t> sizes;
  for (int64_t part = 0; part < parts; ++part) sizes.push_back(std::ssize(text_from(part * kTextRows)));
  const auto all = comm.all_gather_host(std::accumulate(sizes.begin(), sizes.end(), int64_t{0}));
  int64_t offset = std::accumulate(all.begin(), all.begin() + comm.rank(), int64_t{0});

  std::optional<AtomicFile> file;
  on_root(comm, [&] { file.emplace(path); });
  int64_t part = 0;
  write_pieces(path, leads ? file->temporary() : std::filesystem::path(), comm, [&]() -> std::optional<FilePiece> {
    if (part == parts) return std::nullopt;
    const std::string text = text_from(part * kTextRows);
    VIXEN_CHECK(std::ssize(text) == sizes[static_cast<size_t>(part)], "a text of {} bytes was one of {}", text.size(),
                sizes[static_cast<size_t>(part)]);
    auto bytes = at::empty({std::ssize(text)}, at::kByte);
    std::copy(text.begin(), text.end(), static_cast<char*>(bytes.mutable_data_ptr()));
    const FilePiece piece{offset, bytes};
    offset += sizes[static_cast<size_t>(part++)];
    return piece;
  });
  on_root(comm, [&] { file->publish(); });
}

}  // namespace vixen

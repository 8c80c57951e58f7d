#include "nccl_doubles/wire.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace vixen::doubles {
namespace {

// An address in the kernel alone: nothing is left behind by a process that dies.
socklen_t address_of(const std::string& name, int rank, sockaddr_un& address) {
  address = {};
  address.sun_family = AF_UNIX;
  const std::string text = name + "-" + std::to_string(rank);
  const size_t length = std::min(text.size(), sizeof(address.sun_path) - 1);
  std::memcpy(address.sun_path + 1, text.data(), length);
  return static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + length);
}

[[noreturn]] void give_up(const char* what) {
  std::perror(what);
  std::abort();
}

int new_socket() {
  const int made = ::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (made < 0) give_up("socket");
  return made;
}

bool would_block(ssize_t moved) {
  return moved < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR);
}

}  // namespace

Wire::Wire(std::string name, int rank, int world_size)
    : name_(std::move(name)),
      rank_(rank),
      world_size_(world_size),
      listener_(new_socket()),
      wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      peers_(static_cast<size_t>(world_size), -1) {
  sockaddr_un address;
  const socklen_t length = address_of(name_, rank_, address);
  if (wake_ < 0 || ::bind(listener_, reinterpret_cast<sockaddr*>(&address), length) != 0 ||
      ::listen(listener_, world_size_) != 0)
    give_up("a listening socket");
}

Wire::~Wire() {
  close();
  ::close(wake_);
}

bool Wire::connect(const std::function<void(int)>& met) {
  int count = 0;
  // To the ranks below, whose sockets may not be there yet; then from those above, which say who they are.
  for (int peer = 0; peer < rank_; ++peer) {
    sockaddr_un address;
    const socklen_t length = address_of(name_, peer, address);
    const int made = new_socket();
    while (::connect(made, reinterpret_cast<sockaddr*>(&address), length) != 0) {
      if (is_cut()) {
        ::close(made);
        return false;
      }
      ::usleep(1000);
    }
    if (::send(made, &rank_, sizeof(rank_), MSG_NOSIGNAL) != static_cast<ssize_t>(sizeof(rank_))) give_up("send");
    peers_[static_cast<size_t>(peer)] = made;
    met(++count);
  }
  for (int above = rank_ + 1; above < world_size_;) {
    if (is_cut()) return false;
    const int made = ::accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (made < 0) {
      ::usleep(1000);
      continue;
    }
    int peer = -1;
    while (::recv(made, &peer, sizeof(peer), 0) < 0 && !is_cut()) ::usleep(1000);
    if (peer <= rank_ || peer >= world_size_) {  // it died before it said who it is
      ::close(made);
      continue;
    }
    peers_[static_cast<size_t>(peer)] = made;
    met(++count);
    ++above;
  }
  return true;
}

bool Wire::exchange(std::vector<Parcel> parcels, const std::function<void(int)>& lost) {
  while (true) {
    std::vector<pollfd> waits = {{wake_, POLLIN, 0}};
    for (const Parcel& parcel : parcels) {
      const auto wanted = static_cast<short>((parcel.out_bytes > 0 ? POLLOUT : 0) | (parcel.in_bytes > 0 ? POLLIN : 0));
      if (wanted != 0) waits.push_back({peers_[static_cast<size_t>(parcel.peer)], wanted, 0});
    }
    if (is_cut()) return false;
    if (waits.size() == 1) return true;
    ::poll(waits.data(), waits.size(), -1);
    for (Parcel& parcel : parcels) {
      const int peer = peers_[static_cast<size_t>(parcel.peer)];
      bool gone = false;
      if (parcel.out_bytes > 0) {
        const ssize_t moved = ::send(peer, parcel.out, parcel.out_bytes, MSG_NOSIGNAL);
        gone = moved < 0 && !would_block(moved);
        if (moved > 0) {
          parcel.out += moved;
          parcel.out_bytes -= static_cast<size_t>(moved);
        }
      }
      if (!gone && parcel.in_bytes > 0) {
        const ssize_t moved = ::recv(peer, parcel.in, parcel.in_bytes, 0);
        gone = moved == 0 || (moved < 0 && !would_block(moved));
        if (moved > 0) {
          parcel.in += moved;
          parcel.in_bytes -= static_cast<size_t>(moved);
        }
      }
      if (gone && !is_cut()) {
        lost(parcel.peer);
        wait_for_cut();
        return false;
      }
    }
  }
}

void Wire::cut() {
  cut_ = true;
  const uint64_t one = 1;
  if (::write(wake_, &one, sizeof(one)) != static_cast<ssize_t>(sizeof(one))) give_up("eventfd");
}

void Wire::wait_for_cut() const {
  pollfd wait = {wake_, POLLIN, 0};
  while (!is_cut()) ::poll(&wait, 1, -1);
}

void Wire::close() {
  for (int& peer : peers_) {
    if (peer >= 0) ::close(peer);
    peer = -1;
  }
  if (listener_ >= 0) ::close(listener_);
  listener_ = -1;
}

}  // namespace vixen::doubles

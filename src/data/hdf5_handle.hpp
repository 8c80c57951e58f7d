// HDF5 identifiers that close themselves, and HDF5's error stack as one line of text.
#pragma once

#include <hdf5.h>

#include <mutex>
#include <string>
#include <utility>

namespace vixen {

/// Owns one HDF5 identifier. Closed on destruction (a failure there is ignored: nothing was promised yet); close()
/// reports.
class Hdf5Handle {
 public:
  using Close = herr_t (*)(hid_t);

  Hdf5Handle() = default;
  Hdf5Handle(hid_t id, Close closer) : id_(id), close_(closer) {}
  Hdf5Handle(Hdf5Handle&& other) noexcept : id_(std::exchange(other.id_, -1)), close_(other.close_) {}
  Hdf5Handle& operator=(Hdf5Handle&& other) noexcept {
    if (this != &other) {
      close();
      id_ = std::exchange(other.id_, -1);
      close_ = other.close_;
    }
    return *this;
  }
  Hdf5Handle(const Hdf5Handle&) = delete;
  Hdf5Handle& operator=(const Hdf5Handle&) = delete;
  ~Hdf5Handle() { close(); }

  hid_t get() const { return id_; }
  bool valid() const { return id_ >= 0; }
  /// False when HDF5 could not close it (for a file: could not flush it).
  bool close() {
    const hid_t id = std::exchange(id_, -1);
    return id < 0 || close_(id) >= 0;
  }

 private:
  hid_t id_ = -1;
  Close close_ = nullptr;
};

/// The most specific message of this thread's HDF5 error stack ("truncated file: eof = 100, ..."), "no reason given"
/// when empty.
std::string hdf5_reason();

/// One thread at a time inside HDF5 (the library need not be a thread-safe build), with HDF5's own printing turned off.
[[nodiscard]] std::unique_lock<std::recursive_mutex> hdf5_lock();

}  // namespace vixen

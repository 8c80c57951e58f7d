// The error stack and the lock around HDF5.
#include "data/hdf5_handle.hpp"

namespace vixen {
namespace {

herr_t keep_first(unsigned n, const H5E_error2_t* error, void* out) {
  if (n == 0 && error->desc) *static_cast<std::string*>(out) = error->desc;
  return 0;
}

}  // namespace

std::string hdf5_reason() {
  std::string reason;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_first, &reason);
  for (char& c : reason)
    if (c == '\n') c = ' ';
  return reason.empty() ? "no reason given" : reason;
}

std::unique_lock<std::recursive_mutex> hdf5_lock() {
  static std::recursive_mutex mutex;
  std::unique_lock lock(mutex);
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);  // a thread-safe build keeps this setting per thread: set it every time
  return lock;
}

}  // namespace vixen

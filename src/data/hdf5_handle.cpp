// The error stack and the lock around HDF5.
#include "data/hdf5_handle.hpp"

#include <string_view>

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
  // A refused read or write comes with addresses and sizes around what matters: "..., error message = 'No space left',
  // ...".
  constexpr std::string_view kMessage = "error message = '";
  if (const size_t at = reason.find(kMessage); at != std::string::npos) {
    const size_t begin = at + kMessage.size();
    reason = reason.substr(begin, reason.find('\'', begin) - begin);
  }
  for (char& c : reason)
    if (c == '\n') c = ' ';
  return reason.empty() ? "no reason given" : reason;
}

std::unique_lock<std::recursive_mutex> hdf5_lock() {
  static std::recursive_mutex mutex;
  // A file that could not be flushed (a full disk) stays half closed in HDF5, and its clean-up at exit crashes on it.
  // We close every file ourselves, so that clean-up has nothing to do. This must precede every other call.
  [[maybe_unused]] static const herr_t no_clean_up = H5dont_atexit();
  std::unique_lock lock(mutex);
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);  // a thread-safe build keeps this setting per thread: set it every time
  return lock;
}

}  // namespace vixen

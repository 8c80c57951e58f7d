// The HDF5 library of this process.
#pragma once

#include <string>

namespace vixen {

struct Hdf5Versions {
  std::string compiled;  // of the headers
  std::string loaded;
};
Hdf5Versions hdf5_versions();

}  // namespace vixen

// HDF5 matrices: all rows, whatever the layout.
#include <ATen/ATen.h>

#include "data/hdf5_matrix.hpp"
#include "fuzz/hdf5_seeds.hpp"
#include "fuzz/target.hpp"

namespace vixen::fuzz {
namespace {

void read(const std::string& input) {
  const MatrixReader reader({put("input.h5", input), "/embeddings"});
  const at::Tensor rows = reader.read({0, reader.rows()}, /*check_finite=*/true);
  use(rows.const_data_ptr(), rows.nbytes());
}

std::string mutate(const std::string& input, Random& random) {
  return mutate_bytes(input, random);
}

}  // namespace

const Target kMatrix = {"matrix", matrix_files, read, mutate};

}  // namespace vixen::fuzz

// main() of the tests of emulated kernels: tensors are tracked, and what at::empty gives is NaN.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <map>

#include "emulated/comparison.hpp"
#include "emulated/global_memory.hpp"

namespace vixen::emulated {
namespace {

std::map<std::pair<std::string, std::string>, double> differences;

}  // namespace

void note_difference(const std::string& kernel, at::ScalarType dtype, double difference) {
  double& most = differences[{kernel, c10::toString(dtype)}];
  most = std::max(most, difference);
}

}  // namespace vixen::emulated

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  vixen::emulated::track_tensors();
  const int status = RUN_ALL_TESTS();
  for (const auto& [of, most] : vixen::emulated::differences)
    std::printf("%s, %s: at most %.1e from the reference\n", of.first.c_str(), of.second.c_str(), most);
  return status;
}

// SwiGLU's CUDA kernels, emulated: against the reference, the forward's bits in the backward, bytes.
#include "kernels/swiglu.hpp"

#include "emulated/comparison.hpp"

namespace vixen::emulated {
namespace {

using test::random;

constexpr KernelFamily kFamily = KernelFamily::kActivation;

struct Shape {
  int64_t rows, width;
};
// Whole vectors of both storages, of one alone, and rows of single columns; more than one block, and a part of one.
constexpr Shape kShapes[] = {{1, 1}, {3, 13}, {5, 8}, {37, 12}, {7, 304}, {2, 1030}, {64, 96}};

TEST(EmulatedSwiglu, ForwardMeetsTheReference) {
  for (const auto dtype : test::kStorages)
    for (const auto& [rows, width] : kShapes) {
      SCOPED_TRACE(testing::Message() << rows << " rows of " << width);
      const at::Tensor gate_up = (random({rows, 2 * width}, 1) * 3).to(dtype);
      const Counts counted = expect_meets_reference("swiglu", kFamily, dtype, [&] { return Results{swiglu(gate_up)}; });
      EXPECT_EQ(counted.loaded_bytes, 2 * element_bytes(dtype) * rows * width);
      EXPECT_EQ(counted.stored_bytes, element_bytes(dtype) * rows * width);
    }
}

TEST(EmulatedSwiglu, BackwardMeetsTheReferenceAndGivesTheForwardsBits) {
  for (const auto dtype : test::kStorages)
    for (const auto& [rows, width] : kShapes) {
      SCOPED_TRACE(testing::Message() << rows << " rows of " << width);
      const at::Tensor gate_up = (random({rows, 2 * width}, 1) * 3).to(dtype), grad = random({rows, width}, 2, dtype);
      const int64_t bytes = element_bytes(dtype) * rows * width;
      Counts counted = expect_meets_reference("swiglu_backward", kFamily, dtype,
                                              [&] { return Results{swiglu_backward(grad, gate_up)}; });
      EXPECT_EQ(counted.loaded_bytes, 3 * bytes);
      EXPECT_EQ(counted.stored_bytes, 2 * bytes);
      counted = expect_meets_reference("swiglu_backward", kFamily, dtype, [&] {
        at::Tensor activation = grad.clone();
        const at::Tensor back = swiglu_backward_again(activation, gate_up);
        return Results{back, activation};
      });
      EXPECT_EQ(counted.loaded_bytes, 3 * bytes);
      EXPECT_EQ(counted.stored_bytes, 3 * bytes);
      const Emulation emulation;
      at::Tensor activation = grad.clone();
      EXPECT_TRUE(same_bits(swiglu_backward_again(activation, gate_up), swiglu_backward(grad, gate_up)));
      EXPECT_TRUE(same_bits(activation, swiglu(gate_up)));
    }
}

TEST(EmulatedSwiglu, LargeGatesStayFinite) {
  const at::Tensor gates = at::tensor({-1e30, -1e4, -100.0, -88.0, 0.0, 88.0, 1e4, 1e30}, at::kFloat);
  const at::Tensor gate_up = at::cat({gates, at::full({8}, 2.0f)}).view({1, 16});
  for (const auto dtype : test::kStorages)
    expect_meets_reference("swiglu", kFamily, dtype, [&] {
      return Results{swiglu(gate_up.to(dtype)), swiglu_backward(at::ones({1, 8}, dtype), gate_up.to(dtype))};
    });
}

// A view that begins in the middle of a vector takes the form of single columns.
TEST(EmulatedSwiglu, RowsThatBeginBesideVectorsAreRead) {
  const at::Tensor all = random({4 * 32 + 1}, 3);
  const at::Tensor gate_up = all.narrow(0, 1, 4 * 32).view({4, 32});
  expect_meets_reference("swiglu", kFamily, at::kFloat, [&] { return Results{swiglu(gate_up)}; });
}

}  // namespace
}  // namespace vixen::emulated

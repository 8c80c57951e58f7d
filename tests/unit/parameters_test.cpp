// The parameter store: views into flat buffers, alignment, bf16 copies.
#include "model/parameters.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "base/check.hpp"

namespace vixen {
namespace {

TEST(ParameterStore, ViewsShareTheFlatBuffers) {
  ParameterStore store;
  const int a = store.add("a", {3, 5}, ParameterGroup::kBackbone);
  const int b = store.add("b", {7}, ParameterGroup::kPrototypeNoDecay);
  store.allocate(at::kCPU, at::kFloat);
  EXPECT_EQ(store.count(), 2);
  EXPECT_EQ(store.find("b"), b);
  EXPECT_EQ(store.find("c"), -1);
  EXPECT_EQ(store.info(b).group, ParameterGroup::kPrototypeNoDecay);
  EXPECT_EQ(store.info(a).size, 15);
  store.value(a).fill_(2);
  store.grad(b).fill_(3);
  EXPECT_EQ(store.value(a).sizes(), at::IntArrayRef({3, 5}));
  EXPECT_EQ(store.flat_values().sum().item<float>(), 30);
  EXPECT_EQ(store.flat_grads().narrow(0, store.info(b).offset, 7).sum().item<float>(), 21);
  EXPECT_EQ(store.compute(a).data_ptr(), store.value(a).data_ptr());
  store.zero_grads();
  EXPECT_EQ(store.flat_grads().abs().max().item<float>(), 0);
}

TEST(ParameterStore, ParametersBeginOnCacheLines) {
  ParameterStore store;
  for (int i = 1; i < 20; ++i) store.add("p" + std::to_string(i), {i * 13}, ParameterGroup::kBackbone);
  store.allocate(at::kCPU, at::kBFloat16);
  for (int i = 0; i < store.count(); ++i) {
    EXPECT_EQ(store.info(i).offset * 2 % 64, 0);
    if (i == 0) continue;
    EXPECT_GE(store.info(i).offset, store.info(i - 1).offset + store.info(i - 1).size);
  }
}

TEST(ParameterStore, Bfloat16Copies) {
  ParameterStore store;
  const int table = store.add("table", {100, 4}, ParameterGroup::kBackbone, /*in_products=*/false);
  const int weight = store.add("weight", {4, 4}, ParameterGroup::kBackbone);
  const int bias = store.add("bias", {4}, ParameterGroup::kBackboneNoDecay);
  store.allocate(at::kCPU, at::kBFloat16);
  store.value(weight).fill_(1.00390625);  // between two bf16 numbers
  store.value(bias).fill_(3);
  EXPECT_EQ(store.compute(weight).sum().item<float>(), 0) << "copies follow refresh_compute() only";
  store.refresh_compute();
  EXPECT_EQ(store.compute(weight).scalar_type(), at::kBFloat16);
  EXPECT_TRUE(store.compute(weight).equal(store.value(weight).to(at::kBFloat16)));
  EXPECT_TRUE(store.compute(bias).equal(store.value(bias).to(at::kBFloat16)));
  EXPECT_THROW(store.compute(table), BugError);
}

// Frozen ones take no place in the buffers and are what they were given, whatever the compute dtype.
TEST(ParameterStore, FrozenOnesLieBesideTheBuffers) {
  ParameterStore store;
  const int frozen = store.add("frozen", {4, 5}, ParameterGroup::kFrozen);
  const int trained = store.add("trained", {3}, ParameterGroup::kBackbone);
  const int last = store.add("last", {2}, ParameterGroup::kFrozen);
  store.allocate(at::kCPU, at::kBFloat16);
  EXPECT_FALSE(store.trained(frozen));
  EXPECT_EQ(store.info(frozen).size, 0);
  EXPECT_EQ(store.info(trained).offset, 0);
  EXPECT_EQ(store.flat_values().numel(), 32) << "one aligned place";
  EXPECT_GE(store.flat_values().numel(), store.info(last).offset);
  EXPECT_THROW(store.value(frozen), BugError) << "before it is given";
  const at::Tensor value = at::ones({4, 5}, at::kBFloat16);
  store.set_frozen(frozen, value);
  EXPECT_EQ(store.value(frozen).data_ptr(), value.data_ptr());
  EXPECT_EQ(store.compute(frozen).data_ptr(), value.data_ptr());
  EXPECT_THROW(store.grad(frozen), BugError);
  store.grad_or_scratch(frozen).fill_(1);
  store.grad_or_scratch(trained).fill_(1);
  EXPECT_EQ(store.flat_grads().sum().item<float>(), 3);
  EXPECT_THROW(store.set_frozen(frozen, at::ones({5, 4})), BugError);
  EXPECT_THROW(store.set_frozen(trained, at::ones({3})), BugError);
}

TEST(ParameterStore, Misuse) {
  ParameterStore store;
  store.add("a", {3}, ParameterGroup::kBackbone);
  EXPECT_THROW(store.add("a", {3}, ParameterGroup::kBackbone), BugError);
  EXPECT_THROW(store.value(0), BugError);
  store.allocate(at::kCPU, at::kFloat);
  EXPECT_THROW(store.add("b", {3}, ParameterGroup::kBackbone), BugError);
  EXPECT_THROW(store.allocate(at::kCPU, at::kFloat), BugError);
}

}  // namespace
}  // namespace vixen

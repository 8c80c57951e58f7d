// The pretend device itself: numbers, bytes, and every fault that it must find.
#include <ATen/ATen.h>
#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <gtest/gtest.h>

#include <cmath>

#include "device/device.hpp"
#include "device/transfer.hpp"
#include "pretend/pretend_device.hpp"

namespace vixen::pretend {
namespace {

class PretendDeviceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    device();
    take_faults();
  }
  void TearDown() override { EXPECT_EQ(text_of(take_faults()), ""); }

  // The only fault, which is taken away.
  static std::string the_fault() {
    const auto faults = take_faults();
    EXPECT_EQ(faults.size(), 1U) << text_of(faults);
    return text_of(faults);
  }
  static c10::Stream other_stream() {
    return c10::impl::VirtualGuardImpl(c10::kPrivateUse1).getStreamFromGlobalPool(device());
  }
  static c10::Stream own_stream() { return c10::impl::VirtualGuardImpl(c10::kPrivateUse1).getStream(device()); }
};

#define EXPECT_THE_FAULT(part)                               \
  {                                                          \
    const std::string found = the_fault();                   \
    EXPECT_NE(found.find(part), std::string::npos) << found; \
  }

at::Tensor numbers(at::IntArrayRef sizes, uint64_t seed = 1) {
  return at::randn(sizes, at::make_generator<at::CPUGeneratorImpl>(seed), at::dtype(at::kFloat));
}

TEST_F(PretendDeviceTest, OperatorsGiveTheBitsOfTheCpu) {
  const auto a = numbers({64, 32}, 1), w = numbers({48, 32}, 2);
  const auto run = [](const at::Tensor& x, const at::Tensor& weight) {
    const auto y = x.matmul(weight.t());
    const auto [values, places] = y.topk(5, 1);
    auto marked = at::zeros_like(y).scatter(1, places, values);
    marked.narrow(0, 3, 4).add_(1);
    marked.select(1, 2).copy_(y.select(1, 0));
    return at::cat({at::softmax(marked, 1), at::layer_norm(y, {48}).to(at::kBFloat16).to(at::kFloat)}, 1)
        .index_select(0, at::arange(0, 64, 2, x.options().dtype(at::kLong)));
  };
  const auto expected = run(a, w), found = run(a.to(device()), w.to(device()));
  EXPECT_EQ(found.device(), device());
  EXPECT_TRUE(found.cpu().equal(expected));
}

TEST_F(PretendDeviceTest, BytesAreCounted) {
  const int64_t before = bytes();
  {
    const auto x = at::empty({1000}, at::dtype(at::kFloat).device(device()));
    EXPECT_EQ(bytes(), before + 4000);
    reset_peak_bytes();
    x.to(at::kDouble);
    EXPECT_EQ(peak_bytes(), before + 4000 + 8000);
    EXPECT_EQ(bytes(), before + 4000);
    const MemoryUse use = memory_use(device());
    EXPECT_EQ(use.current_bytes, before + 4000);
    EXPECT_EQ(use.peak_tensor_bytes, before + 12000);
  }
  EXPECT_EQ(bytes(), before);
}

TEST_F(PretendDeviceTest, TensorsOfTheHostAreRefused) {
  const auto x = at::ones({48}, at::dtype(at::kFloat).device(device()));
  const auto y = at::ones({48}, at::kFloat);
  EXPECT_THROW(x + y, c10::Error);
  EXPECT_THROW(y + x, c10::Error);
  EXPECT_THROW(x.index_select(0, at::zeros({2}, at::kLong)), c10::Error);
  EXPECT_NO_THROW(x * 2 + at::scalar_tensor(3, at::kFloat));
}

TEST_F(PretendDeviceTest, ItsMemoryIsClosedToTheHost) {
  const auto x = at::ones({4}, at::dtype(at::kFloat).device(device()));
  EXPECT_DEATH(EXPECT_EQ(*x.const_data_ptr<float>(), 1), "");
}

TEST_F(PretendDeviceTest, CopiesAreCounted) {
  const auto pageable = numbers({10}), pinned = pageable.pin_memory();
  EXPECT_FALSE(pageable.is_pinned());
  EXPECT_TRUE(pinned.is_pinned());
  EXPECT_TRUE(pinned.narrow(0, 4, 3).is_pinned());
  const auto before = counts();
  const auto x = pageable.to(device());
  pinned.to(device(), /*non_blocking=*/true);
  pinned.to(at::TensorOptions(device()).dtype(at::kHalf), /*non_blocking=*/true);  // by way of pageable memory
  to_device(pageable, device());
  x.cpu();
  auto down = at::empty({10}, at::dtype(at::kFloat).pinned_memory(true));
  down.copy_(x, /*non_blocking=*/true);
  const auto after = counts();
  EXPECT_EQ(after.to_device_pageable - before.to_device_pageable, 2);
  EXPECT_EQ(after.to_device_pinned - before.to_device_pinned, 2);
  EXPECT_EQ(after.to_host_pageable - before.to_host_pageable, 1);
  EXPECT_EQ(after.to_host_pinned - before.to_host_pinned, 1);
  EXPECT_EQ(after.waits - before.waits, 1);
}

TEST_F(PretendDeviceTest, WaitsInAStepAreFaults) {
  const auto x = at::arange(10, at::dtype(at::kLong).device(device()));
  const auto mask = x > 3;
  x.sum().item<int64_t>();  // outside of a step
  const InStep step;
  x.sum().item<int64_t>();
  EXPECT_THE_FAULT("aten::item");
  mask.nonzero();
  EXPECT_THE_FAULT("aten::nonzero");
  x.index({mask});
  EXPECT_THE_FAULT("aten::nonzero");
  x.clone().index_put_({mask}, at::zeros({}, x.options()));
  EXPECT_THE_FAULT("index_put");
  at::repeat_interleave(x, x);
  EXPECT_THE_FAULT("aten::repeat_interleave");
  at::repeat_interleave(x, x, 0, 45);
  x.equal(x);
  EXPECT_THE_FAULT("aten::equal");
  at::bincount(x, {}, 20);
  EXPECT_THE_FAULT("aten::bincount");
  own_stream().synchronize();
  EXPECT_THE_FAULT("synchronize of a stream");
}

TEST_F(PretendDeviceTest, PageableCopiesInAStepAreFaults) {
  const auto host = numbers({10});
  const auto x = host.to(device());
  const InStep step;
  host.to(device(), /*non_blocking=*/true);
  EXPECT_THE_FAULT("copy to the device");
  x.index({at::arange(3, at::kLong)});
  EXPECT_THE_FAULT("copy to the device");
  x.cpu();
  EXPECT_EQ(take_faults().size(), 2U) << "it is pageable, and it blocks";
  host.pin_memory().to(device());
  EXPECT_THE_FAULT("blocks");
}

TEST_F(PretendDeviceTest, AnotherStreamNeedsAnEvent) {
  const auto side = other_stream();
  auto x = numbers({10}).to(device());
  at::Tensor y;
  {
    const c10::StreamGuard guard(side);
    y = x + 1;
    EXPECT_THE_FAULT("aten::add");
  }
  y + 1;
  EXPECT_THE_FAULT("aten::add");

  c10::Event made(c10::kPrivateUse1), read(c10::kPrivateUse1);
  x.add_(1);  // after what reads it on the side
  EXPECT_THE_FAULT("does not wait for aten::add on");
  made.record(own_stream());
  {
    const c10::StreamGuard guard(side);
    made.block(side);
    y = x + 1;
    read.record(side);
  }
  read.block(own_stream());
  x.add_(1);
  y + 1;
  y.record_stream(own_stream());
}

TEST_F(PretendDeviceTest, PartsOfATensorAreOrderedOnTheirOwn) {
  const auto side = other_stream();
  auto x = numbers({100}).to(device());
  own_stream().synchronize();
  {
    const c10::StreamGuard guard(side);
    x.narrow(0, 0, 50).add_(1);
  }
  x.narrow(0, 50, 50).add_(1);
  x.narrow(0, 49, 2).add_(1);
  EXPECT_THE_FAULT("does not wait for");
  side.synchronize();
}

TEST_F(PretendDeviceTest, TheHostOrdersStreamsByWaiting) {
  const auto side = other_stream();
  auto x = numbers({10}).to(device());
  own_stream().synchronize();
  {
    const c10::StreamGuard guard(side);
    x.add_(1);
  }
  side.synchronize();
  x.add_(1);
}

TEST_F(PretendDeviceTest, MemoryInUseIsNotFreed) {
  const auto side = other_stream();
  const auto use_aside = [&](bool recorded) {
    const auto x = numbers({10}).to(device());
    c10::Event made(c10::kPrivateUse1);
    made.record(own_stream());
    made.block(side);
    const c10::StreamGuard guard(side);
    const auto y = x + 1;
    if (recorded) x.record_stream(side);
  };
  use_aside(true);
  use_aside(false);
  EXPECT_THE_FAULT("is freed while");
}

TEST_F(PretendDeviceTest, WhatComesDownArrivesWhenTheHostWaits) {
  const auto x = at::full({10}, 3.0, at::dtype(at::kFloat).device(device()));
  auto down = at::empty({10}, at::dtype(at::kFloat).pinned_memory(true));
  c10::Event copied(c10::kPrivateUse1);
  down.copy_(x, /*non_blocking=*/true);
  copied.record(own_stream());
  EXPECT_TRUE(std::isnan(down[0].item<float>())) << "not yet";
  EXPECT_TRUE(down.to(device(), /*non_blocking=*/true).eq(3).all().item<bool>()) << "the stream has it";
  copied.synchronize();
  EXPECT_EQ(down[9].item<float>(), 3);
}

TEST_F(PretendDeviceTest, PinnedMemoryStaysAsItIsWhileItIsCopied) {
  auto up = numbers({10}).pin_memory();
  const auto x = up.to(device(), /*non_blocking=*/true);
  own_stream().synchronize();
  up.zero_();
  const auto y = up.to(device(), /*non_blocking=*/true);
  up.add_(1);
  own_stream().synchronize();
  EXPECT_THE_FAULT("pinned memory was written");
}

TEST_F(PretendDeviceTest, AFaultNamesTheFunctionsThatLedToIt) {
  const auto x = at::ones({4}, at::dtype(at::kFloat).device(device()));
  const InStep step;
  settle(x);
  const auto faults = take_faults();
  ASSERT_FALSE(faults.empty());
  EXPECT_NE(faults[0].trace.find("vixen::settle"), std::string::npos) << text_of(faults);
}

}  // namespace
}  // namespace vixen::pretend

// safetensors files: round trips, and every way a header can be damaged ends in a UserError that names file and tensor.
#include "model/safetensors.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>

#include "fixtures/fault.hpp"
#include "fixtures/temp_dir.hpp"

namespace vixen {
namespace {

class Safetensors : public ::testing::Test {
 protected:
  const test::TempDir dir_;
  const std::filesystem::path path_ = dir_.path() / "vixen.safetensors";

  // A file of a header and so many zero bytes of data.
  void write_raw(const std::string& header, size_t data_bytes, std::optional<uint64_t> length = {}) {
    std::ofstream out(path_, std::ios::binary);
    const uint64_t size = length.value_or(header.size());
    out.write(reinterpret_cast<const char*>(&size), 8);
    out << header << std::string(data_bytes, '\0');
  }
  // Opens the file; the message of its UserError, which names it.
  std::string fault() {
    const std::string message = test::fault_of([&] { const SafetensorsFile file(path_); });
    EXPECT_NE(message.find(path_.string()), std::string::npos) << message;
    return message;
  }
};

TEST_F(Safetensors, RoundTripOfEveryDtype) {
  std::map<std::string, at::Tensor> tensors;
  const at::Tensor values = at::arange(24, at::kFloat).view({2, 3, 4});
  for (const auto dtype : {at::kFloat, at::kHalf, at::kBFloat16, at::kLong, at::kInt, at::kByte, at::kBool})
    tensors[std::string("t.") + c10::toString(dtype)] = values.to(dtype);
  tensors["odd"] = at::arange(3, at::kByte);
  tensors["scalar"] = at::scalar_tensor(2.5, at::kFloat);
  tensors["empty"] = at::empty({0, 7}, at::kFloat);
  tensors["strided"] = values.transpose(0, 2);
  write_safetensors(path_, tensors, {{"format", "pt"}, {"quote\"", "line\nbreak"}});
  const SafetensorsFile file(path_);
  EXPECT_EQ(file.names().size(), tensors.size());
  for (const auto& [name, tensor] : tensors) {
    const at::Tensor back = file.tensor(name);
    EXPECT_EQ(back.scalar_type(), tensor.scalar_type()) << name;
    EXPECT_TRUE(back.equal(tensor)) << name;
    EXPECT_EQ(reinterpret_cast<uintptr_t>(back.const_data_ptr()) % back.element_size(), 0u) << name;
  }
  EXPECT_EQ(file.metadata().at("format"), "pt");
  EXPECT_EQ(file.metadata().at("quote\""), "line\nbreak");
  EXPECT_TRUE(file.contains("odd"));
  EXPECT_FALSE(file.contains("even"));
  EXPECT_THROW(file.tensor("even"), UserError);
}

TEST_F(Safetensors, EmptyFileOfTensors) {
  write_safetensors(path_, {});
  EXPECT_TRUE(SafetensorsFile(path_).names().empty());
}

TEST_F(Safetensors, UnalignedTensorsAreCopied) {
  std::string header =
      R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"F32","shape":[2],"data_offsets":[1,9]}})";
  write_raw(header, 9);
  EXPECT_TRUE(SafetensorsFile(path_).tensor("b").equal(at::zeros({2})));
}

TEST_F(Safetensors, UnwritableFolder) {
  EXPECT_THROW(write_safetensors(path_ / "below" / "x.safetensors", {{"a", at::zeros({1})}}), UserError);
}

TEST_F(Safetensors, MissingFile) {
  EXPECT_FAULT(fault(), "vixen.safetensors");
}

TEST_F(Safetensors, TooShort) {
  std::ofstream(path_) << "abc";
  EXPECT_FAULT(fault(), "3 bytes");
}

TEST_F(Safetensors, LengthBeyondTheFile) {
  write_raw("{}", 0, 1000);
  EXPECT_FAULT(fault(), "its length reads 1000 bytes");
  write_raw("{}", 0, ~uint64_t{0});
  EXPECT_FAULT(fault(), "its length reads 18446744073709551615 bytes");
}

TEST_F(Safetensors, BadJson) {
  write_raw(R"({"a":{"dtype")", 0);
  EXPECT_FAULT(fault(), "damaged safetensors header");
  write_raw(R"([1,2])", 0);
  EXPECT_FAULT(fault(), "array");
  write_raw(std::string("{\"a\xff\":1}"), 0);
  EXPECT_FAULT(fault(), "damaged safetensors header");
}

TEST_F(Safetensors, BadFields) {
  write_raw(R"({"a":7})", 0);
  EXPECT_FAULT(fault(), "tensor a");
  write_raw(R"({"a":{"dtype":"F32","shape":[1]}})", 4);
  EXPECT_FAULT(fault(), "tensor a");
  write_raw(R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4);
  EXPECT_FAULT(fault(), "shape holds -1");
  write_raw(R"({"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}})", 4);
  EXPECT_FAULT(fault(), "shape holds 1.5");
  write_raw(R"({"__metadata__":{"x":1}})", 0);
  EXPECT_FAULT(fault(), "__metadata__.x");
}

TEST_F(Safetensors, WrongDtype) {
  write_raw(R"({"a":{"dtype":"F12","shape":[1],"data_offsets":[0,4]}})", 4);
  EXPECT_FAULT(fault(), "tensor a has dtype F12");
}

TEST_F(Safetensors, SizeDoesNotFitTheShape) {
  write_raw(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", 8);
  EXPECT_FAULT(fault(), "holds 8 bytes, expected 12");
  write_raw(R"({"a":{"dtype":"F64","shape":[4294967296,4294967296,4294967296],"data_offsets":[0,8]}})", 8);
  EXPECT_FAULT(fault(), "tensor a");
}

TEST_F(Safetensors, RangesOutsideTheFile) {
  write_raw(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}})", 8);
  EXPECT_FAULT(fault(), "truncated");
  write_raw(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[8,4]}})", 8);
  EXPECT_FAULT(fault(), "[8, 4)");
}

TEST_F(Safetensors, OverlapsHolesAndTrailingBytes) {
  write_raw(
      R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
      12);
  EXPECT_FAULT(fault(), "tensor b begins at byte 4 of the data, inside the tensor before it");
  write_raw(
      R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}})",
      12);
  EXPECT_FAULT(fault(), "behind a hole");
  write_raw(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 6);
  EXPECT_FAULT(fault(), "6 bytes of tensors, expected 4");
}

TEST_F(Safetensors, RepeatedTensor) {
  write_raw(
      R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
      1);
  EXPECT_FAULT(fault(), "tensor a occurs twice");
}

}  // namespace
}  // namespace vixen

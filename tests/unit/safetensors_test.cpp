// safetensors files: round trips, and every way a header can be damaged ends in a UserError that names file and tensor.
#include "model/weights/safetensors.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>

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
    std::string message = test::fault_of([&] { const SafetensorsFile file(path_); });
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

TEST_F(Safetensors, NonFiniteValuesAreNamedWhenTheyAreRead) {
  // Written past the writer's own check.
  const std::string header = R"({"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
                             R"("b":{"dtype":"F64","shape":[2],"data_offsets":[24,40]},)"
                             R"("c":{"dtype":"BF16","shape":[],"data_offsets":[40,42]},)"
                             R"("d":{"dtype":"F16","shape":[2],"data_offsets":[42,46]},)"
                             R"("e":{"dtype":"I64","shape":[1],"data_offsets":[46,54]}})";
  const auto patch = [&](std::initializer_list<int> bytes, std::streamoff at) {
    write_raw(header, 54);
    std::fstream out(path_, std::ios::in | std::ios::out | std::ios::binary);
    out.seekp(static_cast<std::streamoff>(8 + header.size()) + at);
    for (const int byte : bytes) out.put(static_cast<char>(byte));
  };
  const auto fault_of_tensor = [&](const std::string& name) {
    const SafetensorsFile file(path_);
    return test::fault_of([&] { file.tensor(name); });
  };
  patch({0, 0, 0xC0, 0x7F}, 20);
  EXPECT_EQ(fault_of_tensor("a"),
            path_.string() + ": tensor a holds NaN or infinity (element [1, 2]: NaN), expected finite weights");
  EXPECT_EQ(fault_of_tensor("b"), "(no fault)");  // one damaged tensor does not touch the others
  patch({0x80, 0xFF}, 40);
  EXPECT_FAULT(fault_of_tensor("c"), "tensor c holds NaN or infinity (-infinity)");
  patch({0, 0x7C}, 44);
  EXPECT_FAULT(fault_of_tensor("d"), "(element [1]: infinity)");
  patch({0x3C, 0x19, 0x4F, 0xC7, 0x9C, 0x73, 0x8D, 0x69}, 24);  // about 1e200
  EXPECT_FAULT(fault_of_tensor("b"), "beyond the range of float32");
  patch({1, 0, 0, 0}, 0);  // the smallest subnormal is a number
  EXPECT_EQ(fault_of_tensor("a"), "(no fault)");
  patch({0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F}, 46);  // integers have no NaN
  EXPECT_EQ(fault_of_tensor("e"), "(no fault)");
}

TEST_F(Safetensors, NonFiniteValuesAreNotWritten) {
  at::Tensor bad = at::ones({3, 2}, at::kBFloat16);
  bad[2][0] = std::numeric_limits<float>::infinity();
  const auto message = test::error_of([&] { write_safetensors(path_, {{"good", at::ones({2})}, {"bad", bad}}); });
  EXPECT_FAULT(message,
               path_.string() + ": tensor bad would be written with NaN or infinity (element [2, 0]: infinity)");
  EXPECT_TRUE(std::filesystem::is_empty(dir_.path()));
}

TEST_F(Safetensors, TensorsOfOtherProgramsDoNotStopAFile) {
  const std::pair<const char*, size_t> dtypes[] = {{"C64", 128},    {"F8_E8M0", 16},     {"F4", 8},
                                                   {"F6_E2M3", 12}, {"F8_E4M3FNUZ", 16}, {"F6_E3M2", 12}};
  for (const auto& [dtype, bytes] : dtypes) {
    write_raw(fmt::format(R"({{"other":{{"dtype":"{}","shape":[16],"data_offsets":[0,{}]}},)"
                          R"("a":{{"dtype":"F32","shape":[1],"data_offsets":[{},{}]}}}})",
                          dtype, bytes, bytes, bytes + 4),
              bytes + 4);
    const SafetensorsFile file(path_);
    EXPECT_TRUE(file.tensor("a").equal(at::zeros({1})));
    EXPECT_FALSE(file.is_readable("other"));
    EXPECT_EQ(file.dtype_name("other"), dtype);
    EXPECT_EQ(file.bytes("other"), static_cast<int64_t>(bytes));
    EXPECT_FAULT(test::fault_of([&] { file.tensor("other"); }),
                 path_.string() + ": tensor other has dtype " + dtype + ", which this program does not read");
  }
  write_raw(R"({"a":{"dtype":"F4","shape":[3],"data_offsets":[0,2]}})", 2);
  EXPECT_FAULT(fault(), "tensor a of F4 [3] holds 2 bytes, expected 1.5");
}

TEST_F(Safetensors, MetadataAndPaddingAsTheReferenceTakesThem) {
  write_raw(R"({"__metadata__":null,"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}   )", 4);
  EXPECT_TRUE(SafetensorsFile(path_).metadata().empty());
  write_raw(std::string(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})") + std::string(8, '\0'), 4);
  EXPECT_FAULT(fault(), "damaged safetensors header: a zero byte at its byte 54");
}

TEST_F(Safetensors, WhatIsSomethingElseIsNamed) {
  std::ofstream(path_) << "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 90868376\n";
  EXPECT_FAULT(fault(), "not a safetensors file: found a Git LFS pointer");
  std::ofstream(path_) << "<!doctype html><html><body>Sign in</body></html>";
  EXPECT_FAULT(fault(), "not a safetensors file: found an HTML page");
  std::ofstream(path_) << "";
  EXPECT_FAULT(fault(), "0 bytes, expected at least 8, found an empty file");
}

TEST_F(Safetensors, ALimitOnFileSizesIsOneLine) {
  const auto run = [&] {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit small{4096, 4096};
    if (setrlimit(RLIMIT_FSIZE, &small) != 0) std::exit(3);
    const auto message = test::fault_of([&] { write_safetensors(path_, {{"a", at::ones({100, 100})}}); });
    std::exit(message == path_.string() + ": cannot write: File too large" ? 2 : 4);
  };
  EXPECT_EXIT(run(), testing::ExitedWithCode(2), "");
  EXPECT_TRUE(std::filesystem::is_empty(dir_.path()));
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
  EXPECT_FAULT(fault(), "found \"[\"");
  write_raw(std::string("{\"a\xff\":1}"), 0);
  EXPECT_FAULT(fault(), "damaged safetensors header");
}

TEST_F(Safetensors, NestedTooDeep) {
  const auto nested = [](size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  write_raw("{\"a\":" + nested(5) + "}", 0);
  EXPECT_FAULT(fault(), "tensor a reads [[[[[]]]]]");
  write_raw("{\"a\":" + nested(200000) + "}", 0);  // a reader that recurses would run out of stack
  EXPECT_FAULT(fault(), "nested deeper than 10 levels");
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

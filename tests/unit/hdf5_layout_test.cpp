// Every way in which HDF5 can keep a matrix: read right, or refused by name; fill values are never taken for data.
#include <gtest/gtest.h>

#include <ATen/ATen.h>

#include <cstdlib>
#include <fstream>

#include "base/file.hpp"
#include "data/hdf5_file.hpp"
#include "data/hdf5_matrix.hpp"
#include "fixtures/fault.hpp"
#include "fixtures/hdf5_builder.hpp"
#include "fixtures/temp_dir.hpp"

namespace vixen {
namespace {

using test::assembled;
using test::chunked;
using test::error_of;
using test::expect_mentions;
using test::Hdf5Builder;

/// [10, 3], no two values alike and none 0.
at::Tensor some_values(double first = 1) {
  return at::arange(30, at::kFloat).view({10, 3}) + first;
}

struct Layouts : testing::Test {
  test::TempDir dir;
  std::filesystem::path path = dir.path() / "m.h5";
  at::Tensor values = some_values();
  const void* data = values.const_data_ptr();

  at::Tensor read(const std::string& dataset = "/x") const {
    const MatrixReader reader({path, dataset});
    at::Tensor rows = reader.read({0, reader.rows()}, true);
    EXPECT_TRUE(at::equal(reader.read({2, 7}, true), rows.slice(0, 2, 7)));
    return rows;
  }
  std::string error(const std::string& dataset = "/x") const {
    return error_of([&] {
      const MatrixReader reader({path, dataset});
      reader.read({0, reader.rows()}, true);
    });
  }
};

TEST_F(Layouts, ContiguousCompactChunkedAndFiltered) {
  {
    const Hdf5Builder file(path);
    file.add("/contiguous", {{10, 3}, H5T_IEEE_F32LE, [](hid_t) {}, data});
    file.add("/compact", {{10, 3}, H5T_IEEE_F32LE, [](hid_t creation) { H5Pset_layout(creation, H5D_COMPACT); }, data});
    file.add("/odd", {{10, 3}, H5T_IEEE_F32LE, chunked({4, 2}), data});
    file.add("/packed", {{10, 3},
                         H5T_IEEE_F32LE,
                         chunked({4, 3},
                                 [](hid_t creation) {
                                   H5Pset_shuffle(creation);
                                   H5Pset_deflate(creation, 6);
                                   H5Pset_fletcher32(creation);
                                 }),
                         data});
  }
  for (const char* dataset : {"/contiguous", "/compact", "/odd", "/packed"})
    EXPECT_TRUE(at::equal(read(dataset), values)) << dataset;
}

TEST_F(Layouts, AUserBlockShiftsWhatIsMapped) {
  {
    Hdf5Builder(path, 512).add("/x", {{10, 3}, H5T_IEEE_F32LE, [](hid_t) {}, data});
  }
  EXPECT_TRUE(at::equal(read(), values));
}

TEST_F(Layouts, BothByteOrders) {
  const std::pair<hid_t, at::ScalarType> types[] = {{H5T_IEEE_F32BE, at::kFloat},
                                                    {H5T_IEEE_F64BE, at::kDouble},
                                                    {H5T_STD_I32BE, at::kInt},
                                                    {H5T_STD_I64BE, at::kLong}};
  for (const auto& [type, dtype] : types) {
    {
      Hdf5Builder(path).add("/x", {{10, 3}, type, [](hid_t) {}, data});
    }
    EXPECT_EQ(MatrixReader({path, "/x"}).dtype(), dtype);
    EXPECT_TRUE(at::equal(read(), values.to(dtype)));
  }
}

TEST_F(Layouts, OtherTypesAreNamed) {
  const Hdf5Handle opaque(H5Tcreate(H5T_OPAQUE, 2), H5Tclose), complex(H5Tcreate(H5T_COMPOUND, 8), H5Tclose);
  H5Tinsert(complex.get(), "r", 0, H5T_IEEE_F32LE);
  H5Tinsert(complex.get(), "i", 4, H5T_IEEE_F32LE);
  const Hdf5Handle bfloat16(H5Tcopy(H5T_IEEE_F32LE), H5Tclose), text(H5Tcopy(H5T_C_S1), H5Tclose);
  H5Tset_fields(bfloat16.get(), 15, 7, 8, 0, 7);
  H5Tset_size(bfloat16.get(), 2);
  H5Tset_size(text.get(), H5T_VARIABLE);
  const std::pair<hid_t, const char*> types[] = {{H5T_STD_I8LE, "int8"},
                                                 {H5T_STD_U16BE, "big-endian uint16"},
                                                 {H5T_STD_U64LE, "uint64"},
                                                 {opaque.get(), "opaque values of 2 bytes"},
                                                 {complex.get(), "complex64 numbers"},
                                                 {bfloat16.get(), "bfloat16"},
                                                 {text.get(), "strings"},
                                                 {H5T_STD_REF_OBJ, "references"}};
  for (const auto& [type, name] : types) {
    { Hdf5Builder(path).add("/x", {{10, 3}, type, chunked({10, 3})}); }
    const Hdf5File file(path, Hdf5File::Mode::kRead);
    EXPECT_EQ(file.describe("/x").type_name, name);
  }
  {
    Hdf5Builder(path).add("/x", {{10, 3}, H5T_STD_I8LE, [](hid_t) {}, data});
  }
  expect_mentions(error(), {path.string() + ":/x", "holds int8, expected float16"});
}

TEST_F(Layouts, WhatWasNeverWrittenIsRefused) {
  {
    const Hdf5Builder file(path);
    file.add("/contiguous", {{10, 3}});
    file.add("/chunked", {{10, 3}, H5T_IEEE_F32LE, chunked({4, 3})});
    file.add("/partly", {{10, 3}, H5T_IEEE_F32LE, chunked({4, 3})});
    const Hdf5Handle dataset(H5Dopen2(file.get(), "/partly", H5P_DEFAULT), H5Dclose);
    const Hdf5Handle space(H5Dget_space(dataset.get()), H5Sclose), memory(H5Scopy(space.get()), H5Sclose);
    const hsize_t start[] = {0, 0}, count[] = {8, 3};
    H5Sselect_hyperslab(space.get(), H5S_SELECT_SET, start, nullptr, count, nullptr);
    H5Sselect_hyperslab(memory.get(), H5S_SELECT_SET, start, nullptr, count, nullptr);
    ASSERT_GE(H5Dwrite(dataset.get(), H5T_NATIVE_FLOAT, memory.get(), space.get(), H5P_DEFAULT, data), 0);
    file.add("/empty", {{0, 3}, H5T_IEEE_F32LE, [](hid_t) {}});
  }
  expect_mentions(error("/contiguous"), {path.string() + ":/contiguous: was never written"});
  expect_mentions(error("/chunked"), {":/chunked: 3 of its 3 chunks were never written"});
  expect_mentions(error("/partly"), {":/partly: 1 of its 3 chunks were never written"});
  EXPECT_EQ(MatrixReader({path, "/empty"}).rows(), 0);
}

TEST_F(Layouts, FiltersThatAreNotThereAreNamed) {
  const auto with = [&](H5Z_filter_t filter) {
    Hdf5Builder(path).add(
        "/x",
        {{10, 3},
         H5T_IEEE_F32LE,
         chunked({10, 3}, [=](hid_t creation) { H5Pset_filter(creation, filter, H5Z_FLAG_OPTIONAL, 0, nullptr); }),
         data});
  };
  with(32000);
  expect_mentions(error(), {path.string() + ":/x: is compressed with lzf (HDF5 filter 32000)", "h5repack"});
  with(411);
  expect_mentions(error(), {"an unknown filter (HDF5 filter 411)"});
}

TEST_F(Layouts, ShapesBeyondAnyFile) {
  const hsize_t big = hsize_t{1} << 40;
  {
    const Hdf5Builder file(path);
    file.add("/product", {{big, big}, H5T_IEEE_F32LE, chunked({1024, 1024})});
    file.add("/scalar", {{}, H5T_IEEE_F32LE, [](hid_t) {}, data});
    const Hdf5Handle null(H5Screate(H5S_NULL), H5Sclose);
    const Hdf5Handle made(
        H5Dcreate2(file.get(), "/null", H5T_IEEE_F32LE, null.get(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT), H5Dclose);
  }
  expect_mentions(error("/product"), {"[1099511627776, 1099511627776]", "more than any file can hold"});
  expect_mentions(error("/scalar"), {"has 0 dimensions, expected 2"});
  expect_mentions(error("/null"), {"no values (a null dataspace)"});
}

TEST_F(Layouts, BehindLinks) {
  const at::Tensor others = some_values(1000), decoy = some_values(500);
  // Both files have a dataset of the same shape at the same place: the address alone does not tell them apart.
  {
    Hdf5Builder(dir.path() / "other.h5").add("/y", {{10, 3}, H5T_IEEE_F32LE, [](hid_t) {}, others.const_data_ptr()});
  }
  {
    const Hdf5Builder file(path);
    file.add("/y", {{10, 3}, H5T_IEEE_F32LE, [](hid_t) {}, decoy.const_data_ptr()});
    H5Lcreate_external("other.h5", "/y", file.get(), "/x", H5P_DEFAULT, H5P_DEFAULT);
    H5Lcreate_external("other.h5", "/", file.get(), "/folder", H5P_DEFAULT, H5P_DEFAULT);
    H5Lcreate_soft("/x", file.get(), "/soft", H5P_DEFAULT, H5P_DEFAULT);
    H5Lcreate_soft("/gone", file.get(), "/broken", H5P_DEFAULT, H5P_DEFAULT);
    H5Lcreate_external("gone\n.h5", "/y", file.get(), "/no_file", H5P_DEFAULT, H5P_DEFAULT);
    H5Lcreate_external("other.h5", "/gone", file.get(), "/no_object", H5P_DEFAULT, H5P_DEFAULT);
  }
  for (const char* dataset : {"/x", "/soft", "/folder/y"}) EXPECT_TRUE(at::equal(read(dataset), others)) << dataset;
  EXPECT_TRUE(at::equal(read("/y"), decoy));
  expect_mentions(error("/broken"),
                  {path.string() + ":/broken: cannot be read", "is a link to /gone, which is not there"});
  expect_mentions(error("/no_file"), {"/no_file is a link to /y in the file gone\\x0a.h5, which is not there"});
  expect_mentions(error("/no_object"), {"/no_object is a link to /gone in the file other.h5"});
  expect_mentions(error("/absent"), {"no such dataset, the file has /broken, /no_file, /no_object, /soft, /x, /y"});
}

TEST_F(Layouts, VirtualDatasetsAreWholeOrRefused) {
  const auto write_part = [&](const std::string& name, int64_t first, int64_t last) {
    const at::Tensor rows = values.slice(0, first, last).contiguous();
    Hdf5Builder(dir.path() / name)
        .add("/deep/y",
             {{static_cast<hsize_t>(last - first), 3}, H5T_IEEE_F64LE, chunked({2, 3}), rows.const_data_ptr()});
  };
  const auto assemble = [&](std::vector<test::VirtualPart> parts) {
    Hdf5Builder(path).add("/x", {{10, 3}, H5T_IEEE_F32LE, assembled({10, 3}, std::move(parts))});
  };
  write_part("a.h5", 0, 4);
  write_part("b.h5", 4, 10);
  assemble({{"a.h5", "/deep/y", 0, 4}, {(dir.path() / "b.h5").string(), "/deep/y", 4, 6}});
  EXPECT_TRUE(at::equal(read(), values));

  std::filesystem::rename(dir.path() / "b.h5", dir.path() / "moved.h5");
  expect_mentions(error(),
                  {path.string() + ":/x: is a virtual dataset", "b.h5:/deep/y is missing: there is no such HDF5"});
  write_part("b.h5", 4, 9);
  expect_mentions(error(), {"b.h5:/deep/y has another shape than what is taken from it"});
  { Hdf5Builder(dir.path() / "b.h5").add("/other", {{6, 3}}); }
  expect_mentions(error(), {"b.h5:/deep/y is missing", "has no such dataset"});
  { Hdf5Builder(dir.path() / "b.h5").add("/deep/y", {{6, 3}, H5T_IEEE_F32LE, chunked({2, 3})}); }
  expect_mentions(error(), {"b.h5:/deep/y: 3 of its 3 chunks were never written"});
  write_part("b.h5", 4, 10);
  EXPECT_TRUE(at::equal(read(), values));

  assemble({{"a.h5", "/deep/y", 0, 4}, {"b.h5", "/deep/y", 4, 5}});
  expect_mentions(error(), {"is a virtual dataset whose parts give 27 of its 30 values"});
  // Two parts on the same rows, a hole behind them.
  assemble({{"b.h5", "/deep/y", 0, 6}, {"a.h5", "/deep/y", 2, 4}});
  expect_mentions(error(), {"parts give 18 of its 30 values"});
}

TEST_F(Layouts, VirtualDatasetsOfTheirOwnFileAndOfEachOther) {
  {
    const Hdf5Builder file(path);
    file.add("/y", {{10, 3}, H5T_IEEE_F32LE, [](hid_t) {}, data});
    file.add("/x", {{10, 3}, H5T_IEEE_F32LE, assembled({10, 3}, {{".", "/y", 0, 10}})});
    file.add("/twice", {{10, 3}, H5T_IEEE_F32LE, assembled({10, 3}, {{".", "/x", 0, 10}})});
    file.add("/circle", {{10, 3}, H5T_IEEE_F32LE, assembled({10, 3}, {{".", "/circle", 0, 10}})});
  }
  EXPECT_TRUE(at::equal(read("/x"), values));
  EXPECT_TRUE(at::equal(read("/twice"), values));
  expect_mentions(error("/circle"), {"is a virtual dataset of virtual datasets, 8 deep"});
}

TEST_F(Layouts, ExternalStorageIsWholeOrRefused) {
  const auto raw = dir.path() / "raw.bin";
  const auto store = [&](const std::string& name, off_t offset, hsize_t size) {
    Hdf5Builder(path).add("/x", {{10, 3}, H5T_IEEE_F32LE, [&](hid_t creation) {
                                   H5Pset_external(creation, name.c_str(), offset, size);
                                 }});
  };
  const auto write = [&](size_t padding, size_t bytes) {
    std::ofstream out(raw, std::ios::binary);
    out << std::string(padding, 'x');
    out.write(static_cast<const char*>(data), static_cast<std::streamsize>(bytes));
  };
  for (const hsize_t size : {hsize_t{120}, H5F_UNLIMITED}) {
    store(raw.string(), 7, size);
    write(7, 120);
    EXPECT_TRUE(at::equal(read(), values));
    write(7, 116);
    expect_mentions(error(), {path.string() + ":/x", raw.string(), "has 123 bytes: expected 120 from byte 7"});
    std::filesystem::remove(raw);
    expect_mentions(error(), {"its values lie in another file", raw.string(), "No such file"});
  }
  store("beside.bin", 0, 120);
  expect_mentions(error(), {"beside.bin", "HDF5 looks in the current folder"});
}

}  // namespace
}  // namespace vixen

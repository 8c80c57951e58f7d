// The data set reader: values come back as written; every kind of damage is one line that names file, dataset and row.
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <limits>

#include "base/check.hpp"
#include "data/dataset.hpp"
#include "data/hdf5_file.hpp"
#include "data/pairs.hpp"
#include "fixtures/fault.hpp"
#include "fixtures/toy_dataset.hpp"

namespace vixen {
namespace {

using test::expect_mentions;
using test::TempDir;
using test::toy_content;
using test::ToyOptions;
using test::write_toy_dataset;

/// Overwrites element `index` of a dataset in its file.
template <typename T>
void patch(const std::filesystem::path& path, const std::string& dataset, int64_t index, T value) {
  const DatasetLocation location = Hdf5File(path, Hdf5File::Mode::kRead).locate(dataset);
  ASSERT_EQ(element_bytes(location.type), static_cast<int64_t>(sizeof(T)));
  ASSERT_LT(index, location.elements());
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(location.offset_bytes + index * static_cast<int64_t>(sizeof(T)));
  file.write(reinterpret_cast<const char*>(&value), sizeof value);
  ASSERT_TRUE(file.good());
}

/// Changes a file: edit(its handle).
template <typename Edit>
void edit_file(const std::filesystem::path& path, const Edit& edit) {
  const Hdf5Handle file(H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT), H5Fclose);
  ASSERT_TRUE(file.valid());
  edit(file.get());
}

/// The message of the UserError that opening gives.
std::string error_of(const std::filesystem::path& path) {
  return test::error_of([&] { const Dataset dataset(path); });
}

ToyOptions with_images() {
  ToyOptions options;
  options.image_width = 6;
  options.max_images = 3;
  return options;
}

struct DatasetFile : testing::Test {
  TempDir dir;
  std::filesystem::path path = dir.path() / "toy.h5";
};

void expect_rows(const Ragged<int32_t>& found, const OwnedRagged& written) {
  const auto expected = written.view();
  ASSERT_EQ(found.size(), expected.size());
  for (int64_t i = 0; i < found.size(); ++i)
    EXPECT_TRUE(std::equal(found[i].begin(), found[i].end(), expected[i].begin(), expected[i].end())) << "row " << i;
}

TEST_F(DatasetFile, GivesBackWhatWasWritten) {
  const DatasetContent content = toy_content(with_images());
  write_dataset(path, content);
  const Dataset dataset(path);
  EXPECT_EQ(dataset.path(), path);
  EXPECT_EQ(dataset.info().name, "toy");
  EXPECT_EQ(dataset.info().tokenizer_sha256, "toy");
  EXPECT_EQ(dataset.info().vocabulary, 120);
  EXPECT_EQ(dataset.info().max_length, 12);
  EXPECT_EQ(dataset.info().max_images, 3);
  EXPECT_EQ(dataset.info().propensity_a, 0.55);
  EXPECT_EQ(dataset.info().propensity_b, 1.5);
  const std::pair<const SequenceTable*, const SequenceContent*> tables[] = {
      {&dataset.train(), &content.train}, {&dataset.test(), &content.test}, {&dataset.labels(), &content.labels}};
  for (const auto& [table, written] : tables) {
    expect_rows(table->tokens, written->tokens);
    expect_rows(table->images, written->images);
    for (int64_t i = 0; i < table->size(); ++i) EXPECT_EQ(table->text(i), written->texts[static_cast<size_t>(i)]);
  }
  expect_rows(dataset.train_labels(), content.train_labels);
  expect_rows(dataset.test_labels(), content.test_labels);
  expect_rows(dataset.test_filter(), content.test_filter);
  EXPECT_EQ(dataset.info().bos_token, -1);
  expect_rows(dataset.prompts().tokens, content.prompt_tokens);
  ASSERT_EQ(dataset.prompts().size(), 3);
  for (int64_t i = 0; i < 3; ++i) EXPECT_EQ(dataset.prompts().text(i), content.prompt_texts[static_cast<size_t>(i)]);
  ASSERT_EQ(dataset.images().width, 6);
  ASSERT_EQ(dataset.images().n_rows * 6, static_cast<int64_t>(content.image_rows.size()));
  EXPECT_EQ(std::memcmp(dataset.images().rows, content.image_rows.data(), content.image_rows.size() * 2), 0);
}

TEST_F(DatasetFile, WorksWithoutPictures) {
  write_toy_dataset(path);
  const Dataset dataset(path);
  EXPECT_EQ(dataset.images().n_rows, 0);
  EXPECT_TRUE(dataset.train().images[0].empty());
}

TEST_F(DatasetFile, ReadsWhatH5pyWrites) {
  const auto python = std::filesystem::path(VIXEN_TEST_PYTHON);
  const auto script = dir.path() / "write.py";
  // h5py packs small datasets at any address: odd ones must work too.
  std::ofstream(script) << R"(
import h5py, numpy as np, sys
with h5py.File(sys.argv[1], "w") as f:
    f.attrs.update(format="vixen-dataset", version=1, name="né", tokenizer="t", tokenizer_sha256="ab", vocabulary=10,
                   max_length=4, max_images=1, text="title", propensity_a=0.6, propensity_b=2.6, created_by="test")
    def ragged(name, rows, dtype):
        f[name + "/offsets"] = np.cumsum([0] + [len(r) for r in rows]).astype(np.int64)
        f[name + "/values"] = np.array([v for r in rows for v in r], dtype=dtype)
    for group, n in (("train", 3), ("test", 2), ("label", 2)):
        ragged(group + "/tokens", [[1, i, 2] for i in range(n)], np.int32)
        ragged(group + "/texts", [b"x" * (i + 1) for i in range(n)], np.uint8)
        ragged(group + "/images", [[i] if i < 2 else [] for i in range(n)], np.int32)
    ragged("train/labels", [[0], [0, 1], [1]], np.int32)
    ragged("test/labels", [[], [1]], np.int32)
    ragged("test/filter", [[0], []], np.int32)
    f["images/embeddings"] = np.array([[1, 2, 3], [-4, 0.5, 65504]], np.float16)
)";
  const std::string command = python.string() + " " + script.string() + " " + path.string();
  if (!std::filesystem::exists(python) || std::system((python.string() + " -c 'import h5py'").c_str()) != 0)
    GTEST_SKIP() << "no h5py in " << python;
  ASSERT_EQ(std::system(command.c_str()), 0);
  const Dataset dataset(path);
  EXPECT_EQ(dataset.info().name, "né");
  EXPECT_EQ(dataset.info().propensity_b, 2.6);
  EXPECT_EQ(dataset.train().tokens[2][1], 2);
  EXPECT_EQ(dataset.train().text(2), "xxx");
  EXPECT_EQ(dataset.train_labels()[1].size(), 2u);
  EXPECT_EQ(dataset.test_filter()[0][0], 0);
  ASSERT_EQ(dataset.images().n_rows, 2);
  EXPECT_EQ(static_cast<float>(c10::Half(dataset.images().rows[5], c10::Half::from_bits())), 65504.0f);
}

TEST_F(DatasetFile, MissingOrForeignFiles) {
  expect_mentions(error_of(path), {path.string(), "no such file"});
  std::ofstream(path) << "this is not HDF5";
  expect_mentions(error_of(path), {path.string(), "not an HDF5 file"});
  expect_mentions(error_of(dir.path()), {dir.path().string(), "expected an HDF5 file"});
  {
    Hdf5File file(path, Hdf5File::Mode::kCreate);
    file.close();
  }
  expect_mentions(error_of(path), {path.string(), "'format' is missing", "vixen-dataset"});
}

TEST_F(DatasetFile, WrongFormatAndVersion) {
  for (const int64_t version : {0, 2}) {
    Hdf5File file(path, Hdf5File::Mode::kCreate);
    file.set_attribute("format", std::string("vixen-dataset"));
    file.set_attribute("version", version);
    file.close();
    expect_mentions(error_of(path), {path.string(), "'version' is " + std::to_string(version), "reads version 1"});
  }
  Hdf5File file(path, Hdf5File::Mode::kCreate);
  file.set_attribute("format", std::string("vixen-images"));
  file.close();
  expect_mentions(error_of(path), {"'format' is 'vixen-images'", "expected 'vixen-dataset'"});
}

TEST_F(DatasetFile, EveryTruncationIsFound) {
  write_toy_dataset(path, with_images());
  const auto size = std::filesystem::file_size(path);
  for (const double share : {0.999, 0.9, 0.5, 0.1}) {
    const auto cut = dir.path() / "cut.h5";
    std::filesystem::copy_file(path, cut, std::filesystem::copy_options::overwrite_existing);
    std::filesystem::resize_file(cut, static_cast<uintmax_t>(share * static_cast<double>(size)));
    expect_mentions(error_of(cut), {cut.string(), "truncated"});
  }
  std::filesystem::resize_file(path, 0);
  expect_mentions(error_of(path), {path.string(), "0 bytes"});
}

TEST_F(DatasetFile, OffsetsMustNotFall) {
  write_toy_dataset(path);
  patch<int64_t>(path, "/train/tokens/offsets", 18, 3);
  expect_mentions(error_of(path), {path.string() + ":/train/tokens/offsets", "row 17", "ends at 3"});
}

TEST_F(DatasetFile, OffsetsBeginAndEndWithTheValues) {
  write_toy_dataset(path);
  patch<int64_t>(path, "/label/texts/offsets", 0, 1);
  expect_mentions(error_of(path), {"/label/texts/offsets", "row 0 begins at 1", "expected 0"});
  write_toy_dataset(path);
  patch<int64_t>(path, "/test/labels/offsets", 24, 1000000);
  expect_mentions(error_of(path), {"/test/labels/offsets", "is 1000000", "number of values"});
}

TEST_F(DatasetFile, IdsOutOfRange) {
  const DatasetContent content = toy_content(with_images());
  const auto at = [](const OwnedRagged& rows, size_t row) { return rows.offsets[row]; };
  write_dataset(path, content);
  patch<int32_t>(path, "/train/labels/values", at(content.train_labels, 33), -5);
  expect_mentions(error_of(path), {"/train/labels/values", "row 33", "label -5", "[0, 40)"});
  write_dataset(path, content);
  patch<int32_t>(path, "/test/filter/values", 0, 40);
  expect_mentions(error_of(path), {"/test/filter/values", "label 40", "[0, 40)"});
  write_dataset(path, content);
  patch<int32_t>(path, "/label/tokens/values", at(content.labels.tokens, 39), 120);
  expect_mentions(error_of(path), {"/label/tokens/values", "row 39", "token id 120", "[0, 120)", "vocabulary"});
  const auto n_images = static_cast<int64_t>(content.image_rows.size()) / 6;
  write_dataset(path, content);
  patch<int32_t>(path, "/test/images/values", 0, static_cast<int32_t>(n_images));
  expect_mentions(error_of(path),
                  {"/test/images/values", "image row " + std::to_string(n_images), "/images/embeddings"});
}

TEST_F(DatasetFile, OnlyOneRankNeedsToScan) {
  write_toy_dataset(path);
  patch<int32_t>(path, "/train/labels/values", 0, 1 << 30);
  EXPECT_NO_THROW(Dataset(path, /*check_values=*/false));
  EXPECT_THROW(Dataset(path, /*check_values=*/true), UserError);
}

TEST_F(DatasetFile, EmptyRowsAndLongRows) {
  DatasetContent content = toy_content();
  append_row(content.test.tokens, {});
  append_row(content.test.images, {});
  content.test.texts.push_back("");
  append_row(content.test_labels, {});
  append_row(content.test_filter, {});
  write_dataset(path, content);
  expect_mentions(error_of(path), {"/test/tokens", "row 24 is empty"});

  content = toy_content();
  const int64_t n = content.train.size();
  append_row(content.train.tokens, std::vector<int32_t>{1, 2});
  append_row(content.train.images, {});
  content.train.texts.push_back("");
  append_row(content.train_labels, {});
  write_dataset(path, content);
  expect_mentions(error_of(path), {"/train/labels", "row " + std::to_string(n) + " is empty", "at least 1 value"});

  content = toy_content();
  content.info.max_length = 5;
  write_dataset(path, content);
  expect_mentions(error_of(path), {"/train/tokens", "expected at most 5"});

  content = toy_content(with_images());
  content.info.max_images = 1;
  write_dataset(path, content);
  expect_mentions(error_of(path), {"/train/images", "expected at most 1"});
}

TEST_F(DatasetFile, FilesWithoutPromptsAndBosAreRead) {
  write_toy_dataset(path);
  edit_file(path, [](hid_t file) {
    ASSERT_GE(H5Ldelete(file, "/prompts", H5P_DEFAULT), 0);
    ASSERT_GE(H5Adelete(file, "bos_token"), 0);
  });
  const Dataset dataset(path);
  EXPECT_EQ(dataset.prompts().size(), 0);
  EXPECT_EQ(dataset.info().bos_token, -1);
}

TEST_F(DatasetFile, DamagedPrompts) {
  const auto expect_error = [&](const auto& damage, std::initializer_list<std::string> parts) {
    DatasetContent content = toy_content();
    damage(content);
    write_dataset(path, content);
    expect_mentions(error_of(path), parts);
  };
  expect_error([](auto& c) { c.prompt_texts[1] = ""; }, {path.string() + ":/prompts/texts", "row 1 is empty"});
  expect_error([](auto& c) { c.prompt_texts[2] = c.prompt_texts[0]; },
               {"/prompts/texts", "row 2 is the same text as row 0"});
  expect_error([](auto& c) { c.prompt_texts.pop_back(); }, {"/prompts/tokens/offsets", "has 3 rows, expected 2"});
  expect_error([](auto& c) { c.prompt_tokens.values[4] = 120; },
               {"/prompts/tokens/values", "row 1, value 1", "token id 120", "[0, 120)"});
  expect_error([](auto& c) { c.prompt_tokens.offsets[2] = c.prompt_tokens.offsets[3]; },
               {"/prompts/tokens", "row 2 is empty", "at least 1"});
  expect_error([](auto& c) { c.prompt_tokens.offsets[1] = -1; }, {"/prompts/tokens/offsets", "row 0 ends at -1"});
  // Continuation without a begin, cut characters, overlong forms, a surrogate, beyond U+10FFFF.
  for (const std::string bad : {"\x80", "\xc3", "\xe4\xbd", "\xf0\x9f\x98", "\xc0\x80", "\xe0\x9f\xbf",
                                "\xf0\x8f\xbf\xbf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xff"})
    expect_error([&](auto& c) { c.prompt_texts[1] = "ab" + bad; },
                 {"/prompts/texts", "row 1 is not UTF-8 from its byte 2"});

  DatasetContent good = toy_content();
  good.prompt_texts[1] = "é 猫 \U0001F600 \uD7FF\uE000";
  write_dataset(path, good);
  EXPECT_EQ(Dataset(path).prompts().text(1), good.prompt_texts[1]);

  write_toy_dataset(path);
  edit_file(path, [](hid_t file) { ASSERT_GE(H5Ldelete(file, "/prompts/texts", H5P_DEFAULT), 0); });
  expect_mentions(error_of(path), {path.string() + ":/prompts/texts/offsets", "no such dataset"});
}

TEST_F(DatasetFile, BosBeginsEveryText) {
  ToyOptions options;
  options.decoder = true;
  options.bos_token = 2;
  DatasetContent content = toy_content(options);
  write_dataset(path, content);
  EXPECT_EQ(Dataset(path).info().bos_token, 2);
  content.test.tokens.values[static_cast<size_t>(content.test.tokens.offsets[7])] = 9;
  write_dataset(path, content);
  expect_mentions(error_of(path), {"/test/tokens/values", "row 7 begins with token 9, expected 2", "'bos_token'"});
  for (const int32_t bad : {-2, 120}) {
    content.info.bos_token = bad;
    write_dataset(path, content);
    expect_mentions(error_of(path), {path.string(), fmt::format("'bos_token' is {}", bad), "[0, 120)"});
  }
}

TEST_F(DatasetFile, LabelsAscendAndAreDistinct) {
  for (const auto& [second, third] : {std::pair{4, 4}, std::pair{9, 5}}) {
    DatasetContent content = toy_content();
    content.train_labels = {};
    for (int64_t i = 0; i < content.train.size(); ++i)
      append_row(content.train_labels, i == 71 ? std::vector<int32_t>{2, second, third} : std::vector<int32_t>{1});
    write_dataset(path, content);
    expect_mentions(error_of(path), {"/train/labels/values", "row 71", fmt::format("{} follows {}", third, second)});
  }
}

TEST_F(DatasetFile, TablesAgreeOnTheirRows) {
  DatasetContent content = toy_content();
  append_row(content.train_labels, std::vector<int32_t>{1});
  write_dataset(path, content);
  expect_mentions(error_of(path), {"/train/labels/offsets", "has 97 rows, expected 96"});
  content = toy_content();
  content.labels.texts.pop_back();
  write_dataset(path, content);
  expect_mentions(error_of(path), {"/label/texts/offsets", "has 39 rows, expected 40"});
}

TEST_F(DatasetFile, WrongTypesAndLayouts) {
  write_toy_dataset(path);
  edit_file(path, [](hid_t file) { ASSERT_GE(H5Ldelete(file, "/test/filter", H5P_DEFAULT), 0); });
  expect_mentions(error_of(path), {path.string() + ":/test/filter/offsets", "no such dataset"});

  write_toy_dataset(path);
  edit_file(path, [](hid_t file) {
    ASSERT_GE(H5Ldelete(file, "/train/tokens/values", H5P_DEFAULT), 0);
    const hsize_t n = 10;
    const Hdf5Handle space(H5Screate_simple(1, &n, nullptr), H5Sclose);
    const Hdf5Handle made(
        H5Dcreate2(file, "/train/tokens/values", H5T_STD_I64LE, space.get(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT),
        H5Dclose);
    ASSERT_TRUE(made.valid());
  });
  expect_mentions(error_of(path), {"/train/tokens/values", "holds int64, expected int32"});

  write_toy_dataset(path);
  edit_file(path, [](hid_t file) {
    ASSERT_GE(H5Ldelete(file, "/train/tokens/values", H5P_DEFAULT), 0);
    const hsize_t n = 10;
    const Hdf5Handle space(H5Screate_simple(1, &n, nullptr), H5Sclose),
        creation(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
    ASSERT_GE(H5Pset_chunk(creation.get(), 1, &n), 0);
    const Hdf5Handle made(
        H5Dcreate2(file, "/train/tokens/values", H5T_STD_I32LE, space.get(), H5P_DEFAULT, creation.get(), H5P_DEFAULT),
        H5Dclose);
    ASSERT_TRUE(made.valid());
  });
  expect_mentions(error_of(path), {"/train/tokens/values", "chunked", "re-run prepare_dataset"});
}

TEST_F(DatasetFile, APartBehindAnExternalLinkIsReadFromItsOwnFile) {
  const auto other = dir.path() / "other.h5";
  write_toy_dataset(path);
  std::filesystem::copy_file(path, other);
  patch<int32_t>(other, "/train/tokens/values", 5, 77);  // at the same address in both files
  const auto link = [&](const char* file_name) {
    edit_file(path, [&](hid_t file) {
      ASSERT_GE(H5Ldelete(file, "/train/tokens/values", H5P_DEFAULT), 0);
      ASSERT_GE(
          H5Lcreate_external(file_name, "/train/tokens/values", file, "/train/tokens/values", H5P_DEFAULT, H5P_DEFAULT),
          0);
    });
  };
  link("other.h5");
  EXPECT_EQ(Dataset(path).train().tokens.values[5], 77);
  link("gone.h5");
  expect_mentions(error_of(path), {":/train/tokens/values: cannot be read", "in the file gone.h5, which is not there"});
}

TEST_F(DatasetFile, WhatWasNeverWrittenOrIsOfAnotherByteOrder) {
  const auto replace = [&](hid_t type) {
    write_toy_dataset(path);
    edit_file(path, [&](hid_t file) {
      ASSERT_GE(H5Ldelete(file, "/train/tokens/values", H5P_DEFAULT), 0);
      const hsize_t n = 10;
      const Hdf5Handle space(H5Screate_simple(1, &n, nullptr), H5Sclose);
      const Hdf5Handle made(
          H5Dcreate2(file, "/train/tokens/values", type, space.get(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT), H5Dclose);
      ASSERT_TRUE(made.valid());
    });
  };
  replace(H5T_STD_I32LE);
  expect_mentions(error_of(path), {":/train/tokens/values: was never written"});
  replace(H5T_STD_I32BE);
  expect_mentions(error_of(path), {":/train/tokens/values: holds big-endian int32, expected int32"});
}

TEST_F(DatasetFile, PropensityConstantsAreNumbers) {
  auto content = toy_content({});
  content.info.propensity_a = std::numeric_limits<double>::quiet_NaN();
  write_dataset(path, content);
  expect_mentions(error_of(path), {"attribute 'propensity_a' is nan, expected a finite number"});
}

TEST(Transpose, MatchesBruteForce) {
  test::ToyRandom random(3);
  OwnedRagged rows;
  constexpr int32_t kColumns = 37;
  for (int i = 0; i < 200; ++i) {
    std::vector<int32_t> row;
    for (int32_t j = 0; j < kColumns - 2; ++j)  // the last two columns stay empty
      if (random.uniform() < 0.1) row.push_back(j);
    append_row(rows, row);
  }
  const OwnedRagged columns = transpose(rows.view(), {0, kColumns});
  ASSERT_EQ(columns.view().size(), kColumns);
  for (int32_t j = 0; j < kColumns; ++j) {
    std::vector<int32_t> expected;
    for (int32_t i = 0; i < 200; ++i) {
      const auto row = rows.view()[i];
      if (std::find(row.begin(), row.end(), j) != row.end()) expected.push_back(i);
    }
    const auto found = columns.view()[j];
    EXPECT_EQ(std::vector<int32_t>(found.begin(), found.end()), expected) << "column " << j;
  }
}

}  // namespace
}  // namespace vixen

// The schema of docs/data-format.md, written with plain contiguous datasets.
#include "data/dataset_writer.hpp"

#include "base/check.hpp"
#include "base/file.hpp"
#include "data/dataset_identity.hpp"
#include "data/hdf5_file.hpp"

namespace vixen {
namespace {

template <typename T>
void write_vector(Hdf5File& file, const std::string& dataset, const std::vector<T>& values, ElementType type) {
  const int64_t shape[] = {static_cast<int64_t>(values.size())};
  file.create(dataset, shape, type);
  file.write_all(dataset, values.data());
}

/// n_rows: rows to write when `rows` is empty altogether.
void write_ragged(Hdf5File& file, const std::string& group, const OwnedRagged& rows, int64_t n_rows) {
  const bool absent = rows.offsets.empty();
  const std::vector<int64_t> zeros(absent ? static_cast<size_t>(n_rows) + 1 : 0, 0);
  write_vector(file, group + "/offsets", absent ? zeros : rows.offsets, ElementType::kInt64);
  write_vector(file, group + "/values", rows.values, ElementType::kInt32);
}

/// n_rows: rows to write when `texts` is empty altogether.
void write_texts(Hdf5File& file, const std::string& group, const std::vector<std::string>& texts, int64_t n_rows) {
  std::vector<int64_t> offsets{0};
  std::vector<uint8_t> values;
  for (const std::string& text : texts) {
    values.insert(values.end(), text.begin(), text.end());
    offsets.push_back(static_cast<int64_t>(values.size()));
  }
  if (texts.empty()) offsets.assign(static_cast<size_t>(n_rows) + 1, 0);
  write_vector(file, group + "/offsets", offsets, ElementType::kInt64);
  write_vector(file, group + "/values", values, ElementType::kUint8);
}

void write_sequences(Hdf5File& file, const std::string& group, const SequenceContent& content) {
  const int64_t n = content.size();
  write_ragged(file, group + "/tokens", content.tokens, n);
  write_ragged(file, group + "/images", content.images, n);
  write_texts(file, group + "/texts", content.texts, n);
}

void store_identity(const std::filesystem::path& path) {
  DatasetIdentity identity;
  try {
    identity = Dataset(path, /*check_values=*/false).identity();
  } catch (const UserError&) {
    return;  // tests write damaged sets, of which no reader will ask
  }
  Hdf5File file(path, Hdf5File::Mode::kModify);
  for (const auto& part : identity_parts()) file.set_attribute(identity_attribute(part), identity.*part.member);
  file.close();
}

}  // namespace

void append_row(OwnedRagged& rows, std::span<const int32_t> values) {
  if (rows.offsets.empty()) rows.offsets.push_back(0);
  rows.values.insert(rows.values.end(), values.begin(), values.end());
  rows.offsets.push_back(static_cast<int64_t>(rows.values.size()));
}

void write_dataset(const std::filesystem::path& path, const DatasetContent& content) {
  write_atomically(path, [&](const std::filesystem::path& temporary) {
    Hdf5File file(temporary, Hdf5File::Mode::kCreate);
    file.set_attribute("format", std::string("vixen-dataset"));
    file.set_attribute("version", int64_t{1});
    file.set_attribute("name", content.info.name);
    file.set_attribute("tokenizer", content.tokenizer);
    file.set_attribute("tokenizer_sha256", content.info.tokenizer_sha256);
    file.set_attribute("vocabulary", content.info.vocabulary);
    file.set_attribute("max_length", content.info.max_length);
    file.set_attribute("max_images", content.info.max_images);
    file.set_attribute("bos_token", int64_t{content.info.bos_token});
    file.set_attribute("text", content.text);
    file.set_attribute("propensity_a", content.info.propensity_a);
    file.set_attribute("propensity_b", content.info.propensity_b);
    file.set_attribute("created_by", content.created_by);
    write_sequences(file, "/train", content.train);
    write_sequences(file, "/test", content.test);
    write_sequences(file, "/label", content.labels);
    write_ragged(file, "/train/labels", content.train_labels, content.train.size());
    write_ragged(file, "/test/labels", content.test_labels, content.test.size());
    write_ragged(file, "/test/filter", content.test_filter, content.test.size());
    const int64_t width = content.image_width;
    const int64_t shape[] = {width > 0 ? static_cast<int64_t>(content.image_rows.size()) / width : 0, width};
    file.create("/images/embeddings", shape, ElementType::kFloat16);
    file.write_all("/images/embeddings", content.image_rows.data());
    if (!content.prompt_texts.empty() || !content.prompt_tokens.offsets.empty()) {
      write_ragged(file, "/prompts/tokens", content.prompt_tokens, 0);
      write_texts(file, "/prompts/texts", content.prompt_texts, 0);
    }
    file.close();
    if (content.with_identity) store_identity(temporary);
  });
}

}  // namespace vixen

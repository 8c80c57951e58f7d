// XXH3 over the datasets of a part, then over those hashes.
#include "data/dataset_identity.hpp"

#include <fmt/format.h>

#include <cstring>
#include <span>

#include "base/file.hpp"
#include "base/progress.hpp"

namespace vixen {
namespace {

class PartHash {
 public:
  template <typename T>
  void add(std::span<const T> values) {
    const uint64_t hash = checksum(std::as_bytes(values));
    std::byte bytes[sizeof hash];
    std::memcpy(bytes, &hash, sizeof hash);  // little-endian, as every machine that this builds for
    hashes_.insert(hashes_.end(), bytes, bytes + sizeof hash);
  }
  template <typename T>
  void add(const Ragged<T>& rows) {
    add(rows.offsets);
    add(rows.values);
  }
  void add(const SequenceTable& table) {
    add(table.tokens);
    add(table.images);
    add(table.texts);
  }
  std::string hex() const { return fmt::format("{:016x}", checksum(hashes_)); }

 private:
  std::vector<std::byte> hashes_;
};

}  // namespace

const std::vector<IdentityPart>& identity_parts() {
  static const std::vector<IdentityPart> parts = {{"train", "training queries", &DatasetIdentity::train},
                                                  {"test", "test queries", &DatasetIdentity::test},
                                                  {"label", "labels", &DatasetIdentity::label},
                                                  {"images", "pictures", &DatasetIdentity::images}};
  return parts;
}

std::string identity_attribute(const IdentityPart& part) {
  return std::string("content_") + part.name;
}

DatasetIdentity compute_identity(const Dataset& dataset) {
  const Stage stage("hash " + dataset.path().string());
  PartHash train, test, label, images;
  train.add(dataset.train());
  train.add(dataset.train_labels());
  test.add(dataset.test());
  test.add(dataset.test_labels());
  test.add(dataset.test_filter());
  label.add(dataset.labels());
  const ImageStore& store = dataset.images();
  images.add(std::span<const uint16_t>(store.rows, static_cast<size_t>(store.rows ? store.n_rows * store.width : 0)));
  return {train.hex(), test.hex(), label.hex(), images.hex()};
}

}  // namespace vixen

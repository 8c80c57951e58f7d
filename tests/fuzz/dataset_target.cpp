// HDF5 data sets: opened with every check, then every row is looked at, and the report that `inspect` begins with.
#include "data/dataset.hpp"

#include <ATen/ATen.h>

#include "base/file.hpp"
#include "data/hdf5_summary.hpp"
#include "data/pairs.hpp"
#include "fixtures/toy_dataset.hpp"
#include "fuzz/hdf5_seeds.hpp"
#include "fuzz/target.hpp"

namespace vixen::fuzz {
namespace {

test::ToyOptions tiny() {
  test::ToyOptions options;
  options.n_train = 4;
  options.n_test = 2;
  options.n_labels = 3;
  options.vocabulary = 20;
  options.max_length = 6;
  options.max_labels = 2;
  return options;
}

std::vector<std::string> seeds() {
  const auto path = scratch() / "seed.h5";
  std::vector<std::string> list;
  test::write_toy_dataset(path, tiny());
  list.push_back(read_text(path));
  auto options = tiny();
  options.decoder = true;
  options.bos_token = 1;
  options.image_width = 3;
  options.max_images = 2;
  options.prompts = false;
  test::write_toy_dataset(path, options);
  list.push_back(read_text(path));
  list.push_back(in_newest_format(path));
  return list;
}

template <typename T>
void use_rows(const Ragged<T>& rows) {
  for (int64_t i = 0; i < rows.size(); ++i) use(rows[i].data(), rows[i].size() * sizeof(T));
}

void use_table(const SequenceTable& table) {
  use_rows(table.tokens);
  use_rows(table.images);
  use_rows(table.texts);
}

void read(const std::string& input) {
  const auto path = put("input.h5", input);
  const Dataset data(path);
  for (const SequenceTable* table : {&data.train(), &data.test(), &data.labels()}) use_table(*table);
  for (const auto* rows : {&data.train_labels(), &data.test_labels(), &data.test_filter()}) {
    use_rows(*rows);
    transpose(*rows, {0, data.labels().size()});
  }
  const ImageStore& images = data.images();
  if (images.rows != nullptr) use(images.rows, static_cast<size_t>(images.n_rows * images.width) * 2);
  use_rows(data.prompts().tokens);
  use_rows(data.prompts().texts);
  summarise_hdf5(path);
}

std::string mutate(const std::string& input, Random& random) {
  return mutate_bytes(input, random);
}

}  // namespace

const Target kDataset = {"dataset", seeds, read, mutate};

}  // namespace vixen::fuzz

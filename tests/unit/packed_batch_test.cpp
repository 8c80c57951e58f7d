// pack_batch against a plain rendering, sequence by sequence.
#include <gtest/gtest.h>

#include <ATen/ATen.h>

#include <bit>
#include <chrono>
#include <numeric>
#include <set>

#include "base/check.hpp"
#include "base/random.hpp"
#include "data/packed_batch.hpp"
#include "fixtures/fault.hpp"
#include "fixtures/timing.hpp"
#include "fixtures/toy_dataset.hpp"

namespace vixen {
namespace {

using test::ToyOptions;

/// One place of a rendered sequence: a token, or a picture (its row), and its number within the sequence.
struct Place {
  int64_t token = 0, picture = -1, position = 0;
};

/// A sequence in plain words: the padded layout is written out with its pads, which then go.
std::vector<Place> render(const SequenceTable& table, int64_t row, const PackOptions& options, bool drop_pictures) {
  constexpr int64_t kPad = -1;
  const SequenceTemplate& prompt = options.prompt;
  std::vector<Place> text, images, all;
  const auto append = [](std::vector<Place>& to, const std::vector<int32_t>& ids) {
    for (const int32_t id : ids) to.push_back({id, -1, 0});
  };
  const auto row_tokens = table.tokens[row];
  std::vector<int32_t> ids(row_tokens.begin(), row_tokens.end());
  std::vector<int32_t> pictures;
  if (options.images && !options.withhold_images && !drop_pictures)
    pictures.assign(table.images[row].begin(), table.images[row].end());

  const bool image_prefix = options.images && (!pictures.empty() || (options.padded_positions && prompt.decoder));
  if (image_prefix) append(images, prompt.image_prefix);
  for (const int32_t picture : pictures) images.push_back({0, picture, 0});
  const bool front = !prompt.text_prefix.empty() || (prompt.images_first && !images.empty());
  const bool moved = front && prompt.bos >= 0 && ids[0] == prompt.bos;
  if (options.padded_positions && options.images)
    for (auto i = static_cast<int64_t>(pictures.size()); i < options.image_slots; ++i) images.push_back({kPad, -1, 0});

  append(text, prompt.text_prefix);
  append(text, std::vector<int32_t>(ids.begin() + (moved ? 1 : 0), ids.end()));
  if (options.padded_positions && prompt.decoder)
    for (auto i = static_cast<int64_t>(ids.size()); i < prompt.text_slots; ++i) text.push_back({kPad, -1, 0});

  if (moved) append(all, {prompt.bos});
  const auto& first = prompt.images_first ? images : text;
  const auto& second = prompt.images_first ? text : images;
  all.insert(all.end(), first.begin(), first.end());
  all.insert(all.end(), second.begin(), second.end());
  append(all, prompt.closing);
  for (size_t i = 0; i < all.size(); ++i) all[i].position = static_cast<int64_t>(i);
  std::erase_if(all, [](const Place& place) { return place.token == kPad; });
  return all;
}

struct Packed : testing::Test {
  explicit Packed(ToyOptions options = {}) {
    options.image_width = 9;
    options.max_images = 3;
    write_toy_dataset(dir.path() / "toy.h5", options);
    dataset = std::make_unique<Dataset>(dir.path() / "toy.h5");
  }

  std::vector<PackPiece> pieces() const { return {{&dataset->train(), queries, 100}, {&dataset->labels(), labels, 7}}; }

  /// dropped: keys of the sequences that must have lost their pictures.
  void compare(const PackOptions& options, const std::set<int64_t>& dropped = {}) const {
    const PackedBatch batch = pack_batch(pieces(), dataset->images(), options);
    std::vector<int64_t> tokens, positions, keys, image_positions, text_positions;
    std::vector<int32_t> starts{0};
    std::vector<float> embeddings;
    int64_t longest = 0;
    for (const PackPiece& piece : pieces())
      for (size_t i = 0; i < piece.rows.size(); ++i) {
        keys.push_back(piece.first_key + static_cast<int64_t>(i));
        for (const Place& place : render(*piece.table, piece.rows[i], options, dropped.contains(keys.back()))) {
          (place.picture >= 0 ? image_positions : text_positions).push_back(static_cast<int64_t>(tokens.size()));
          tokens.push_back(place.token);
          positions.push_back(place.position);
          for (int64_t c = 0; place.picture >= 0 && c < 9; ++c)
            embeddings.push_back(c10::Half(dataset->images().rows[place.picture * 9 + c], c10::Half::from_bits()));
        }
        longest = std::max(longest, static_cast<int64_t>(tokens.size()) - starts.back());
        starts.push_back(static_cast<int32_t>(tokens.size()));
      }
    EXPECT_TRUE(at::equal(batch.tokens, at::tensor(tokens))) << batch.tokens;
    EXPECT_TRUE(at::equal(batch.position_ids, at::tensor(positions))) << batch.position_ids;
    EXPECT_TRUE(at::equal(batch.text_positions, at::tensor(text_positions)));
    EXPECT_TRUE(at::equal(batch.sequence_keys, at::tensor(keys)));
    EXPECT_TRUE(at::equal(batch.cu_seqlens, at::tensor(starts)));
    EXPECT_EQ(batch.cu_seqlens.scalar_type(), at::kInt);
    EXPECT_EQ(batch.max_seqlen, longest);
    EXPECT_EQ(batch.n_sequences(), static_cast<int64_t>(keys.size()));
    EXPECT_EQ(batch.n_positions(), static_cast<int64_t>(tokens.size()));
    EXPECT_LE(batch.position_ids.max().item<int64_t>(), longest_sequence(*dataset, options) - 1);
    ASSERT_EQ(batch.image_embeddings.defined(), !image_positions.empty());
    ASSERT_EQ(batch.image_positions.defined(), !image_positions.empty());
    if (image_positions.empty()) return;
    EXPECT_TRUE(at::equal(batch.image_positions, at::tensor(image_positions)));
    EXPECT_EQ(batch.image_embeddings.scalar_type(), at::kFloat);
    EXPECT_TRUE(at::equal(batch.image_embeddings, at::tensor(embeddings).view({-1, 9})));
  }

  test::TempDir dir;
  std::unique_ptr<Dataset> dataset;
  std::vector<int64_t> queries{5, 0, 95, 5, 17, 44, 45, 46}, labels{39, 39, 1, 2, 3, 4, 5};
};

TEST_F(Packed, ContiguousPositions) {
  compare({});
}
TEST_F(Packed, PaddedPositions) {
  compare({.images = true, .padded_positions = true, .image_slots = 3});
}
TEST_F(Packed, PicturesIgnored) {
  compare({.images = false});
  compare({.images = false, .padded_positions = true, .image_slots = 3});
}
TEST_F(Packed, PicturesWithheld) {
  compare({.withhold_images = true});
  compare({.padded_positions = true, .image_slots = 3, .withhold_images = true});
}
TEST_F(Packed, EncoderWithATemplate) {
  for (const bool padded : {false, true})
    for (const bool images_first : {false, true})
      compare({.padded_positions = padded,
               .image_slots = 3,
               .prompt = {.images_first = images_first, .text_prefix = {9}, .image_prefix = {8, 7}, .closing = {6}}});
}

/// A decoder's data set; every text begins with token 2.
struct PackedDecoder : Packed {
  PackedDecoder() : Packed({.decoder = true, .bos_token = 2}) {}

  SequenceTemplate prompt(bool images_first = false) const {
    return {images_first, {11, 12}, {13, 14, 15}, {16}, /*bos=*/2, /*decoder=*/true, dataset->info().max_length};
  }
};

TEST_F(PackedDecoder, EveryOrderNumberingAndChoiceOfPieces) {
  for (const bool images_first : {false, true})
    for (const bool padded : {false, true})
      for (const bool images : {false, true})
        for (const bool withhold : {false, true})
          for (const int32_t bos : {-1, 2})
            for (int pieces_of = 0; pieces_of < 8; ++pieces_of) {
              SequenceTemplate chosen = prompt(images_first);
              chosen.bos = bos;
              if ((pieces_of & 1) == 0) chosen.text_prefix = {};
              if ((pieces_of & 2) == 0) chosen.image_prefix = {};
              if ((pieces_of & 4) == 0) chosen.closing = {};
              SCOPED_TRACE(fmt::format("images_first {} padded {} images {} withhold {} bos {} pieces {}", images_first,
                                       padded, images, withhold, bos, pieces_of));
              compare({.images = images,
                       .padded_positions = padded,
                       .image_slots = 3,
                       .prompt = chosen,
                       .withhold_images = withhold});
            }
}

/// Tokens and numbers of two hand-written sequences: the renderings above share their author with the code.
struct TwoSequences : testing::Test {
  TwoSequences() {
    DatasetContent content;
    content.info = {"two", "", 50, 5, 2, 0.55, 1.5, 1};
    append_row(content.train.tokens, std::vector<int32_t>{1, 40, 41});
    append_row(content.train.images, std::vector<int32_t>{0});
    append_row(content.train.tokens, std::vector<int32_t>{1, 42});
    append_row(content.train.images, std::vector<int32_t>{});
    for (int i = 0; i < 2; ++i) append_row(content.train_labels, std::vector<int32_t>{0});
    append_row(content.labels.tokens, std::vector<int32_t>{1, 43, 44, 45});
    append_row(content.labels.images, std::vector<int32_t>{1, 2});
    content.image_width = 1;
    content.image_rows = {0x3C00, 0x4000, 0x4200};  // 1, 2, 3
    write_dataset(dir.path() / "two.h5", content);
    dataset = std::make_unique<Dataset>(dir.path() / "two.h5");
  }

  void expect(const PackOptions& options, const std::vector<int64_t>& tokens, const std::vector<int64_t>& positions) {
    const PackPiece piece{&dataset->train(), rows, 0};
    const auto batch = pack_batch({&piece, 1}, dataset->images(), options);
    EXPECT_TRUE(at::equal(batch.tokens, at::tensor(tokens))) << batch.tokens;
    EXPECT_TRUE(at::equal(batch.position_ids, at::tensor(positions))) << batch.position_ids;
  }

  SequenceTemplate text_first{false, {20, 21}, {22}, {23}, 1, true, 5};
  SequenceTemplate images_first{true, {20, 21}, {22}, {23}, 1, true, 5};
  test::TempDir dir;
  std::unique_ptr<Dataset> dataset;
  std::vector<int64_t> rows{0, 1};
};

TEST_F(TwoSequences, TextFirst) {
  expect({.prompt = text_first}, {1, 20, 21, 40, 41, 22, 0, 23, 1, 20, 21, 42, 23},
         {0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4});
  expect({.prompt = text_first, .withhold_images = true}, {1, 20, 21, 40, 41, 23, 1, 20, 21, 42, 23},
         {0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4});
}

TEST_F(TwoSequences, ImagesFirst) {
  expect({.prompt = images_first}, {1, 22, 0, 20, 21, 40, 41, 23, 1, 20, 21, 42, 23},
         {0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4});
  images_first.text_prefix = {};  // nothing stands before the second text: its bos stays where it is
  expect({.prompt = images_first}, {1, 22, 0, 40, 41, 23, 1, 42, 23}, {0, 1, 2, 3, 4, 5, 0, 1, 2});
}

TEST_F(TwoSequences, PaddedAsTheAuthorsDo) {
  // [bos][prefix 2][text 4 of 5 slots][image prefix][2 slots][closing]
  expect({.padded_positions = true, .image_slots = 2, .prompt = text_first},
         {1, 20, 21, 40, 41, 22, 0, 23, 1, 20, 21, 42, 22, 23}, {0, 1, 2, 3, 4, 7, 8, 10, 0, 1, 2, 3, 7, 10});
  // [bos][image prefix][2 slots][prefix 2][text 4 of 5 slots][closing]
  expect({.padded_positions = true, .image_slots = 2, .prompt = images_first},
         {1, 22, 0, 20, 21, 40, 41, 23, 1, 22, 20, 21, 42, 23}, {0, 1, 2, 4, 5, 6, 7, 10, 0, 1, 4, 5, 6, 10});
  // without a bos the text keeps its five slots
  text_first.bos = -1;
  expect({.padded_positions = true, .image_slots = 2, .prompt = text_first},
         {20, 21, 1, 40, 41, 22, 0, 23, 20, 21, 1, 42, 22, 23}, {0, 1, 2, 3, 4, 7, 8, 10, 0, 1, 2, 3, 7, 10});
  // a model without pictures has no image part at all
  expect({.images = false, .padded_positions = true, .image_slots = 2, .prompt = text_first},
         {20, 21, 1, 40, 41, 23, 20, 21, 1, 42, 23}, {0, 1, 2, 3, 4, 7, 0, 1, 2, 3, 7});
}

TEST_F(TwoSequences, LongestSequence) {
  // the label: 4 tokens and 2 pictures; prompts of 2, 1 and 1
  EXPECT_EQ(longest_sequence(*dataset, {.prompt = text_first}), 10);
  EXPECT_EQ(longest_sequence(*dataset, {.prompt = text_first, .withhold_images = true}), 10);
  EXPECT_EQ(longest_sequence(*dataset, {.images = false, .prompt = text_first}), 7);
  EXPECT_EQ(longest_sequence(*dataset, {.padded_positions = true, .image_slots = 2, .prompt = text_first}), 11);
  EXPECT_EQ(longest_sequence(*dataset, {}), 6);
  EXPECT_EQ(longest_sequence(*dataset, {.padded_positions = true, .image_slots = 4}), 8);
}

TEST_F(TwoSequences, TextsMustFitTheirSlots) {
  text_first.text_slots = 2;
  const PackPiece piece{&dataset->train(), rows, 0};
  EXPECT_THROW(
      pack_batch({&piece, 1}, dataset->images(), {.padded_positions = true, .image_slots = 2, .prompt = text_first}),
      BugError);
  EXPECT_THROW(pack_batch({&piece, 1}, dataset->images(), {.padded_positions = true, .image_slots = 0}), BugError);
}

TEST_F(PackedDecoder, ImageDropoutIsKeyedBySequence) {
  PackOptions options{.prompt = prompt(), .image_dropout = 0.5, .seed = 12, .step = 34};
  std::set<int64_t> dropped;
  for (const auto& [first, n] : {std::pair<int64_t, int64_t>{100, 8}, {7, 7}})
    for (int64_t key = first; key < first + n; ++key)
      if (random_uniform(12, RandomStream::kImageDropout, 34, static_cast<uint64_t>(key)) < 0.5) dropped.insert(key);
  ASSERT_GT(dropped.size(), 0u);
  ASSERT_LT(dropped.size(), 15u);
  compare(options, dropped);
  options.padded_positions = true;
  options.image_slots = 3;
  compare(options, dropped);
  options.step = 35;
  EXPECT_FALSE(
      at::equal(pack_batch(pieces(), dataset->images(), options).tokens, pack_batch(pieces(), dataset->images(),
                                                                                    [&] {
                                                                                      auto other = options;
                                                                                      other.step = 36;
                                                                                      return other;
                                                                                    }())
                                                                             .tokens));
}

TEST_F(PackedDecoder, ImageDropoutDoesNotDependOnTheSplit) {
  // All training rows at once, and one by one with the same keys: the same pictures.
  const PackOptions options{.prompt = prompt(), .image_dropout = 0.3, .seed = 5, .step = 6};
  std::vector<int64_t> all(static_cast<size_t>(dataset->train().size()));
  std::iota(all.begin(), all.end(), 0);
  const PackPiece whole{&dataset->train(), all, 1000};
  const auto together = pack_batch({&whole, 1}, dataset->images(), options);
  std::vector<at::Tensor> tokens, pictures;
  int64_t lost = 0, with_pictures = 0;
  for (size_t i = 0; i < all.size(); ++i) {
    const PackPiece piece{&dataset->train(), std::span(&all[i], 1), 1000 + static_cast<int64_t>(i)};
    const auto one = pack_batch({&piece, 1}, dataset->images(), options);
    tokens.push_back(one.tokens);
    if (one.image_embeddings.defined()) pictures.push_back(one.image_embeddings);
    if (dataset->train().images[all[i]].empty()) continue;
    ++with_pictures;
    lost += one.image_embeddings.defined() ? 0 : 1;
  }
  EXPECT_TRUE(at::equal(together.tokens, at::cat(tokens)));
  EXPECT_TRUE(at::equal(together.image_embeddings, at::cat(pictures)));
  EXPECT_NEAR(static_cast<double>(lost) / static_cast<double>(with_pictures), 0.3, 0.15);
}

TEST_F(Packed, EmptyBatch) {
  const PackedBatch batch = pack_batch({}, dataset->images(), {});
  EXPECT_EQ(batch.n_sequences(), 0);
  EXPECT_EQ(batch.n_positions(), 0);
  EXPECT_EQ(batch.max_seqlen, 0);
}

TEST_F(Packed, MoveToTheSameDeviceSharesMemory) {
  const PackedBatch batch = pack_batch(pieces(), dataset->images(), {});
  const PackedBatch moved = batch.to(at::kCPU);
  EXPECT_EQ(moved.tokens.data_ptr(), batch.tokens.data_ptr());
  EXPECT_EQ(moved.max_seqlen, batch.max_seqlen);
}

TEST_F(Packed, NonFinitePictureNamesItsRow) {
  for (const uint16_t bad : {uint16_t{0x7E00}, uint16_t{0xFE01}, uint16_t{0x7C00}, uint16_t{0xFC00}}) {
    std::vector<uint16_t> rows(dataset->images().rows, dataset->images().rows + dataset->images().n_rows * 9);
    const int32_t picture = dataset->train().images.values[0];
    rows[static_cast<size_t>(picture) * 9 + 8] = bad;
    const ImageStore damaged{dataset->images().n_rows, 9, rows.data(), "toy.h5:/images/embeddings"};
    std::vector<int64_t> all(static_cast<size_t>(dataset->train().size()));
    std::iota(all.begin(), all.end(), 0);
    const PackPiece piece{&dataset->train(), all, 0};
    EXPECT_FAULT(test::fault_of([&] {
                   pack_batch({&piece, 1}, damaged, {});
                 }),
                 fmt::format("toy.h5:/images/embeddings: row {} holds NaN", picture))
        << std::hex << bad;
    EXPECT_NO_THROW(pack_batch({&piece, 1}, damaged, {.images = false}));
  }
}

TEST_F(Packed, LargestFiniteHalfPasses) {
  std::vector<uint16_t> rows(dataset->images().rows, dataset->images().rows + dataset->images().n_rows * 9);
  std::fill(rows.begin(), rows.end(), 0x7BFF);
  const ImageStore store{dataset->images().n_rows, 9, rows.data(), ""};
  const auto batch = pack_batch(pieces(), store, {});
  EXPECT_EQ(batch.image_embeddings.min().item<float>(), 65504.0f);
}

TEST(PackedSpeed, ABatchIsPackedInMilliseconds) {
  // 1,024 sequences of 5 tokens and 512 pictures of 1,280: the step takes seconds, packing must not be seen beside it.
  ToyOptions options;
  options.n_train = 1024;
  options.image_width = 1280;
  options.image_share = 0.5;
  options.n_test = 1;
  options.n_labels = 2;
  options.max_length = 7;
  test::TempDir dir;
  const Dataset dataset(write_toy_dataset(dir.path() / "toy.h5", options));
  std::vector<int64_t> all(1024);
  std::iota(all.begin(), all.end(), 0);
  const PackPiece piece{&dataset.train(), all, 0};
  const PackOptions pack{.prompt = {false, {11, 12, 13}, {14, 15, 16}, {17}, -1, true, 7}};
  const double best_ms = test::best_milliseconds([&](int) {
    const PackedBatch batch = pack_batch({&piece, 1}, dataset.images(), pack);
    ASSERT_GT(batch.image_embeddings.size(0), 450);
  });
  RecordProperty("best_ms", fmt::format("{:.2f}", best_ms));
  fmt::print("packed 1024 sequences with pictures of 1280 in {:.2f} ms\n", best_ms);
  EXPECT_LT(best_ms, 20);
}

}  // namespace
}  // namespace vixen

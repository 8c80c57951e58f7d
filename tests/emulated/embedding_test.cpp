// The CUDA kernels of the input embeddings, emulated: against the reference, with pictures and without, bytes.
#include "kernels/embedding.hpp"

#include "emulated/comparison.hpp"
#include "kernels/segments.hpp"

namespace vixen::emulated {
namespace {

using test::random;

constexpr KernelFamily kFamily = KernelFamily::kEmbedding;
constexpr int64_t kWidths[] = {1, 13, 8, 44, 304};
constexpr int64_t kRows = 29, kWords = 11, kPlaces = 7;
constexpr at::ScalarType kTables[] = {at::kFloat, at::kBFloat16, at::kHalf};

class EmulatedEmbedding : public testing::Test {
 protected:
  at::Tensor tokens = at::arange(kRows, at::kLong) * 31 % kWords, places = at::arange(kRows, at::kLong) * 5 % kPlaces;
  at::Tensor pictures_at = at::tensor({3, 0, 17, 28}, at::kLong);
  at::Tensor images(int64_t width) const { return random({4, width}, 9); }
};

TEST_F(EmulatedEmbedding, PositionsMeetTheReference) {
  for (const auto dtype : test::kStorages)
    for (const int64_t width : kWidths) {
      SCOPED_TRACE(testing::Message() << width << " columns");
      const at::Tensor word = random({kWords, width}, 1), position = random({kPlaces, width}, 2);
      const at::Tensor type = random({width}, 3);
      const int64_t numbers = kRows * width, threads = numbers / lanes_of(dtype, width);
      Counts counted = expect_meets_reference("embed_positions", kFamily, dtype, [&] {
        return Results{embed_positions(tokens, places, word, position, type, {}, {}, dtype)};
      });
      EXPECT_EQ(counted.loaded_bytes, 12 * numbers + 16 * threads);
      EXPECT_EQ(counted.stored_bytes, element_bytes(dtype) * numbers);
      counted = expect_meets_reference("embed_positions", kFamily, dtype, [&] {
        return Results{embed_positions(tokens, places, word, position, {}, images(width), pictures_at, dtype)};
      });
      // A picture's row is asked for, its token is not.
      EXPECT_EQ(counted.loaded_bytes, 8 * numbers + 24 * threads - 8 * 4 * threads / kRows);
    }
}

TEST_F(EmulatedEmbedding, TokensOfEveryTableMeetTheReference) {
  for (const auto dtype : test::kStorages)
    for (const auto table : kTables)
      for (const int64_t width : kWidths) {
        SCOPED_TRACE(testing::Message() << width << " columns of " << c10::toString(table));
        const at::Tensor word = random({kWords, width}, 1, table);
        const int64_t numbers = kRows * width, threads = numbers / lanes_of(dtype, width);
        const auto word_bytes = static_cast<int64_t>(word.element_size());
        Counts counted = expect_meets_reference("embed_tokens", kFamily, dtype,
                                                [&] { return Results{embed_tokens(tokens, word, {}, {}, dtype)}; });
        EXPECT_EQ(counted.loaded_bytes, word_bytes * numbers + 8 * threads);
        EXPECT_EQ(counted.stored_bytes, element_bytes(dtype) * numbers);
        counted = expect_meets_reference("embed_tokens", kFamily, dtype, [&] {
          return Results{embed_tokens(tokens, word, images(width), pictures_at, dtype)};
        });
        EXPECT_EQ(counted.loaded_bytes, (25 * word_bytes + 4 * 4) * width + 16 * threads - 8 * 4 * threads / kRows);
      }
}

TEST_F(EmulatedEmbedding, GradientsMeetTheReference) {
  for (const auto dtype : test::kStorages)
    for (const int64_t width : kWidths) {
      SCOPED_TRACE(testing::Message() << width << " columns");
      const at::Tensor grad = random({kRows, width}, 4, dtype);
      const Counts counted = expect_meets_reference("segment_sums", kFamily, dtype, [&] {
        at::Tensor grad_word = random({kWords, width}, 5);
        const at::Tensor pictures = embed_tokens_backward(grad, tokens, {}, grad_word);
        return Results{pictures, grad_word};
      });
      const int64_t vectors = width / lanes_of(dtype, width);
      EXPECT_EQ(counted.loaded_bytes,
                element_bytes(dtype) * kRows * width + 4 * kWords * width + (8 * kRows + 24 * kWords) * vectors);
      EXPECT_EQ(counted.stored_bytes, 4 * kWords * width);
      expect_meets_reference("segment_sums", kFamily, dtype, [&] {
        at::Tensor grad_word = random({kWords, width}, 5), grad_place = random({kPlaces, width}, 6);
        at::Tensor grad_type = random({width}, 7);
        const at::Tensor pictures =
            embed_positions_backward(grad, tokens, places, pictures_at, grad_word, grad_place, grad_type);
        return Results{pictures, grad_word, grad_place, grad_type};
      });
    }
}

// What a GPU goes over, one segment a row of the table, most of them empty: the same sums to the bit.
TEST_F(EmulatedEmbedding, SegmentsOfAllRowsGiveTheSameSums) {
  constexpr int64_t kTable = 50;
  const at::Tensor pictures = at::full({kRows}, -1, at::kLong).index_fill_(0, pictures_at, 1);
  for (const auto dtype : test::kStorages)
    for (const int64_t width : kWidths) {
      SCOPED_TRACE(testing::Message() << width << " columns");
      const at::Tensor grad = random({kRows, width}, 4, dtype), start = random({kTable, width}, 5);
      const auto sums = [&](const Segments& of) {
        at::Tensor target = start.clone();
        const SegmentSumsArgs args{.storage = dtype == at::kFloat ? Storage::kFloat32 : Storage::kBfloat16,
                                   .width = width,
                                   .x = grad.const_data_ptr(),
                                   .order = of.order.const_data_ptr<int64_t>(),
                                   .segments = of.segments.const_data_ptr<int64_t>(),
                                   .target_rows = of.target_rows.const_data_ptr<int64_t>(),
                                   .target = target.data_ptr<float>()};
        EXPECT_EQ(emulated_cuda_kernels().segment_sums(args, of.target_rows.numel(), nullptr), 0);
        return target;
      };
      const Segments few = segments_on_host(tokens, pictures, kTable);
      const at::Tensor want = sums(few);
      EXPECT_FALSE(same_bits(want, start));
      const Segments all = segments_on_device(tokens, pictures, kTable);
      Counts counted;
      EXPECT_TRUE(same_bits(in_all_orders([&] { return Results{sums(all)}; }, &counted)[0], want));
      const int64_t rows = kRows - 4, full = few.target_rows.numel();
      EXPECT_EQ(counted.loaded_bytes,
                element_bytes(dtype) * rows * width + 4 * full * width +
                    (8 * rows + 24 * full + 16 * (kTable - full)) * (width / lanes_of(dtype, width)));
      EXPECT_EQ(counted.stored_bytes, 4 * full * width);
    }
}

// Gradients of a table's rows at their owner: segments of one row and of many, whose order is not that of the rows.
TEST(EmulatedSegments, SumsAreTheReferencesToTheBit) {
  constexpr int64_t kGradients = 60;
  const std::vector<int64_t> starts = {0, 1, 2, 9, 10, 43, 45};
  std::vector<int64_t> order;
  for (int64_t i = 0; i < starts.back(); ++i) order.push_back(i * 7 % kGradients);
  for (const int64_t width : kWidths) {
    SCOPED_TRACE(testing::Message() << width << " columns");
    const at::Tensor rows = random({kGradients, width}, 1);
    const at::Tensor order_of = at::tensor(order, at::kLong), starts_of = at::tensor(starts, at::kLong);
    const auto sums = [&] { return Results{sum_segments(rows, order_of, starts_of)}; };
    const Counts counted = expect_meets_reference("segment_sums", kFamily, at::kFloat, sums);
    EXPECT_TRUE(same_bits(sums()[0], reference::sum_segments(rows, order_of, starts_of)));
    at::Tensor want = at::empty({6, width});
    for (int64_t s = 0; s < 6; ++s) {
      want[s].copy_(rows[order[starts[s]]]);
      for (int64_t i = starts[s] + 1; i < starts[s + 1]; ++i) want[s].add_(rows[order[i]]);
    }
    const Emulation emulation;
    EXPECT_TRUE(same_bits(sums()[0], want));
    const int64_t vectors = width / lanes_of(at::kFloat, width), summed = starts.back();
    EXPECT_EQ(counted.loaded_bytes, 4 * (summed + 6) * width + (24 * 6 + 8 * summed) * vectors);
    EXPECT_EQ(counted.stored_bytes, 4 * 6 * width);
  }
}

}  // namespace
}  // namespace vixen::emulated

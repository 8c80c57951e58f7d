// Input embeddings: sums of three tables with pictures in their places, and gradients of each.
#include "kernels/embedding.hpp"
#include "kernels/reference.hpp"
#include "unit/kernel_test.hpp"

namespace vixen {
namespace {

using namespace test;

struct Case {
  at::Tensor tokens, places, word, position, type, images, image_positions;
};

Case make_case(int64_t positions, int64_t width, bool pictures) {
  Case c;
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(uint64_t{9});
  c.tokens = at::randint(0, 50, {positions}, generator, at::kLong);
  c.places = at::arange(positions, at::kLong).remainder(12);
  c.word = random({50, width}, 1);
  c.position = random({12, width}, 2);
  c.type = random({width}, 3);
  if (pictures) {
    c.image_positions = at::arange(0, positions, 12, at::kLong);
    c.images = random({c.image_positions.size(0), width}, 4);
    c.tokens.index_fill_(0, c.image_positions, 0);
  } else {
    c.image_positions = at::empty({0}, at::kLong);
  }
  return c;
}

TEST(EmbeddingKernel, SumsTablesAndPlacesPictures) {
  for (const bool pictures : {false, true}) {
    const Case c = make_case(100, 45, pictures);
    at::Tensor want = c.word.index({c.tokens}).to(at::kDouble);
    if (pictures) want.index_put_({c.image_positions}, c.images.to(at::kDouble));
    want = want + c.position.index({c.places}) + c.type;
    for (const auto dtype : kStorages) {
      EXPECT_LT(difference(reference::embed_positions(c.tokens, c.places, c.word, c.position, c.type, c.images,
                                                      c.image_positions, dtype),
                           want),
                tolerance(dtype));
      for_each_isa([&](const char*) {
        const at::Tensor got =
            embed_positions(c.tokens, c.places, c.word, c.position, c.type, c.images, c.image_positions, dtype);
        EXPECT_EQ(got.scalar_type(), dtype);
        EXPECT_LT(difference(got, want), tolerance(dtype));
      });
    }
  }
}

TEST(EmbeddingKernel, TypeMayBeMissing) {
  const Case c = make_case(20, 16, false);
  const at::Tensor got = embed_positions(c.tokens, c.places, c.word, c.position, {}, {}, {}, at::kFloat);
  EXPECT_LT(difference(got, c.word.index({c.tokens}) + c.position.index({c.places})), 1e-6);
}

TEST(EmbeddingKernel, GradientsGoWhereValuesCameFrom) {
  for (const bool pictures : {false, true}) {
    for (const auto dtype : kStorages) {
      const Case c = make_case(300, 45, pictures);
      const at::Tensor grad = random({300, 45}, 5, dtype), wide = grad.to(at::kDouble);
      at::Tensor want_word = at::ones({50, 45}, at::kDouble), text = wide.clone();
      if (pictures) text.index_fill_(0, c.image_positions, 0);
      want_word.index_add_(0, c.tokens, text);
      const at::Tensor want_position = at::ones({12, 45}, at::kDouble).index_add(0, c.places, wide);
      const at::Tensor want_type = wide.sum(0) + 1;
      const auto check = [&](auto&& backward) {
        at::Tensor word = at::ones({50, 45}), position = at::ones({12, 45}), type = at::ones({45});
        const at::Tensor images = backward(grad, c.tokens, c.places, c.image_positions, word, position, type);
        EXPECT_LT(difference(word, want_word), 2e-6);
        EXPECT_LT(difference(position, want_position), 2e-6);
        EXPECT_LT(difference(type, want_type), 5e-6);
        EXPECT_EQ(images.scalar_type(), at::kFloat);
        EXPECT_TRUE(at::equal(images, grad.index_select(0, c.image_positions).to(at::kFloat)));
      };
      check(reference::embed_positions_backward);
      for_each_isa([&](const char*) { check(embed_positions_backward); });
    }
  }
}

TEST(EmbeddingKernel, TokensFromAnyTable) {
  for (const bool pictures : {false, true}) {
    const Case c = make_case(100, 45, pictures);
    for (const auto table : {at::kFloat, at::kBFloat16, at::kHalf}) {
      const at::Tensor word = c.word.to(table);
      at::Tensor want = word.to(at::kFloat).index_select(0, c.tokens);
      if (pictures) want.index_copy_(0, c.image_positions, c.images);
      for (const auto dtype : kStorages) {
        const auto check = [&](const at::Tensor& got) { EXPECT_TRUE(at::equal(got, want.to(dtype))) << table; };
        check(reference::embed_tokens(c.tokens, word, c.images, c.image_positions, dtype));
        for_each_isa([&](const char*) { check(embed_tokens(c.tokens, word, c.images, c.image_positions, dtype)); });
      }
    }
  }
}

TEST(EmbeddingKernel, EveryHalfIsReadAsItIs) {
  const at::Tensor bits = at::arange(-32768, 32768, at::kInt).to(at::kShort).view({256, 256});
  const at::Tensor word = bits.view(at::kHalf), tokens = at::arange(256, at::kLong);
  const at::Tensor want = word.to(at::kFloat);
  for_each_isa([&](const char*) {
    const at::Tensor got = embed_tokens(tokens, word, {}, {}, at::kFloat);
    EXPECT_TRUE(at::equal(got.isnan(), want.isnan()));
    EXPECT_TRUE(at::equal(got.nan_to_num(0, 1e9, -1e9), want.nan_to_num(0, 1e9, -1e9)));
    EXPECT_TRUE(at::equal(got.signbit(), want.signbit()));
  });
}

TEST(EmbeddingKernel, TokenGradientsSkipPicturesAndFrozenTables) {
  for (const auto dtype : kStorages) {
    const Case c = make_case(300, 45, true);
    const at::Tensor grad = random({300, 45}, 5, dtype);
    const at::Tensor text = grad.to(at::kDouble).index_fill(0, c.image_positions, 0);
    const at::Tensor want = at::ones({50, 45}, at::kDouble).index_add(0, c.tokens, text);
    const at::Tensor want_images = grad.index_select(0, c.image_positions).to(at::kFloat);
    const auto check = [&](auto&& backward) {
      at::Tensor word = at::ones({50, 45});
      EXPECT_TRUE(at::equal(backward(grad, c.tokens, c.image_positions, word), want_images));
      EXPECT_LT(difference(word, want), 2e-6);
      EXPECT_TRUE(at::equal(backward(grad, c.tokens, c.image_positions, at::Tensor{}), want_images));
    };
    check(reference::embed_tokens_backward);
    for_each_isa([&](const char*) { check(embed_tokens_backward); });
  }
}

TEST(EmbeddingKernel, IdsOutsideTheTablesAreRefused) {
  Case c = make_case(20, 16, false);
  c.tokens[7] = 50;
  EXPECT_ANY_THROW(embed_positions(c.tokens, c.places, c.word, c.position, c.type, {}, {}, at::kFloat));
  EXPECT_ANY_THROW(embed_tokens(c.tokens, c.word, {}, {}, at::kFloat));
}

TEST(EmbeddingKernel, ThreadsChangeNothing) {
  const Case c = make_case(2000, 64, true);
  const at::Tensor grad = random({2000, 64}, 6);
  expect_same_for_threads([&] {
    at::Tensor word = at::zeros({50, 64}), position = at::zeros({12, 64}), type = at::zeros({64});
    const at::Tensor images =
        embed_positions_backward(grad, c.tokens, c.places, c.image_positions, word, position, type);
    return std::vector<at::Tensor>{
        embed_positions(c.tokens, c.places, c.word, c.position, c.type, c.images, c.image_positions, at::kFloat), word,
        position, type, images};
  });
}

}  // namespace
}  // namespace vixen

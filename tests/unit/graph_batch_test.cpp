// Filler behind the sequences of a batch: its shape, and that a batch's own part is as it was.
#include "data/graph_batch.hpp"

#include <gtest/gtest.h>

#include "fixtures/tiny_model.hpp"

namespace vixen {
namespace {

using testing::tiny_batch;

TEST(GraphBatch, FillerFollowsTheSequences) {
  for (const int64_t bucket : {1, 16, 100, 512}) {
    for (const int64_t images : {0, 2}) {
      SCOPED_TRACE(::testing::Message() << "multiples of " << bucket << ", " << images << " pictures");
      const auto batch = tiny_batch({{1, 5, images}, {2, 1}, {3, 9}}, 30);
      const auto shape = graph_shape(batch, bucket, 40);
      EXPECT_EQ(shape.positions % bucket, 0);
      EXPECT_GE(shape.longest, batch.max_seqlen);
      EXPECT_LE(shape.longest, 40);
      EXPECT_LE(shape.positions - batch.n_positions(), most_filler(bucket, 40));
      const auto filled = fill_batch(batch, shape);
      const int64_t n = batch.n_sequences(), t = batch.n_positions();
      ASSERT_EQ(filled.n_sequences(), shape.sequences);
      ASSERT_EQ(filled.n_positions(), shape.positions);
      EXPECT_EQ(filled.n_images(), shape.images);
      EXPECT_EQ(filled.text_positions.numel(), shape.positions);
      const auto lengths = filled.cu_seqlens.diff();
      EXPECT_GE(lengths.min().item<int64_t>(), 1);
      EXPECT_LE(lengths.max().item<int64_t>(), shape.longest);
      EXPECT_EQ(filled.cu_seqlens[-1].item<int64_t>(), shape.positions);
      EXPECT_EQ(filled.max_seqlen, shape.longest);
      EXPECT_TRUE(filled.tokens.narrow(0, 0, t).equal(batch.tokens));
      EXPECT_TRUE(filled.position_ids.narrow(0, 0, t).equal(batch.position_ids));
      EXPECT_TRUE(filled.cu_seqlens.narrow(0, 0, n + 1).equal(batch.cu_seqlens));
      EXPECT_TRUE(filled.sequence_keys.narrow(0, 0, n).equal(batch.sequence_keys));
      EXPECT_LT(filled.position_ids.max().item<int64_t>(), 40);
      for (int64_t i = n; i < filled.n_sequences(); ++i)
        EXPECT_EQ(filled.position_ids[filled.cu_seqlens[i].item<int64_t>()].item<int64_t>(), 0);
      if (images == 0) continue;
      EXPECT_TRUE(filled.image_embeddings.narrow(0, 0, images).equal(batch.image_embeddings));
      EXPECT_TRUE(filled.image_positions.narrow(0, 0, images).equal(batch.image_positions));
      EXPECT_GE(filled.image_positions.narrow(0, images, shape.images - images).min().item<int64_t>(), t);
    }
  }
}

TEST(GraphBatch, BatchesOfLikeSizeHaveOneShape) {
  const auto a = graph_shape(tiny_batch({{1, 5}, {2, 9}}, 30), 64, 100);
  const auto b = graph_shape(tiny_batch({{1, 7}, {2, 11}}, 30), 64, 100);
  const auto longer = graph_shape(tiny_batch({{1, 70}, {2, 11}}, 200), 64, 100);
  EXPECT_EQ(a, b);
  EXPECT_NE(a, longer);
  EXPECT_EQ(a.sequences - 2, b.sequences - 2);
}

}  // namespace
}  // namespace vixen

// BERT and DistilBERT over packed sequences: one class, the names come from BertConfig.
//   T positions of n sequences, D width, M pictures of width I.
#pragma once

#include <vector>

#include "model/bert_config.hpp"
#include "model/encoder.hpp"
#include "model/transformer_layer.hpp"

namespace vixen {

class BertEncoder final : public Encoder {
 public:
  BertEncoder(const EncoderOptions& options, const BertConfig& config, ParameterStore& store);

  int64_t width() const override { return config_.width; }
  int64_t vocabulary() const override { return config_.vocabulary; }
  int64_t max_positions() const override { return config_.positions; }
  double forward_flops(int64_t positions, int64_t sum_squared_lengths) const override;
  at::Tensor forward(const PackedBatch& batch, const PassContext& context, std::unique_ptr<Saved>* saved) override;
  void backward(const at::Tensor& grad_h, const PackedBatch& batch, const PassContext& context, Saved& saved,
                const std::function<void(int, int)>& on_ready) override;
  void save(const std::filesystem::path& folder) const override;

 private:
  struct Activations;

  PackedLayout layout(const PackedBatch& batch, const PassContext& context) const;
  at::Tensor image_rows(const PackedBatch& batch) const;
  void check(const PackedBatch& batch) const;

  EncoderOptions options_;
  BertConfig config_;
  ParameterStore* store_;
  int first_ = 0, end_ = 0;  // our parameters; the first n_embedding_ are the embeddings'
  int n_embedding_ = 0;
  int word_ = -1, position_ = -1, type_ = -1, norm_weight_ = -1, norm_bias_ = -1;
  int image_weight_ = -1, image_bias_ = -1;
  std::vector<TransformerLayer> layers_;
};

}  // namespace vixen

#include "model/make_encoder.hpp"

#include "base/check.hpp"
#include "base/text.hpp"
#include "model/adapters/adapter_files.hpp"
#include "model/bert/bert_backbone.hpp"
#include "model/decoder/decoder_backbone.hpp"
#include "model/folder_settings.hpp"
#include "model/weights/model_json.hpp"

namespace vixen {
namespace {

// By the family whose table of variants has the folder's model_type.
std::unique_ptr<Backbone> make_backbone(const EncoderOptions& options, ParameterStore& store) {
  const JsonObject json = JsonObject::of_model(options.model.path);
  const std::string type = json.text("model_type", "");
  if (find_variant(kBertVariants, type) != nullptr)
    return std::make_unique<BertBackbone>(options, read_bert_config(options.model), store);
  if (find_variant(kDecoderVariants, type) != nullptr)
    return std::make_unique<DecoderBackbone>(options, read_decoder_config(options.model), store);
  fail_user("{}: model_type is '{}', expected one of: {}, {}", json.file(), shown(type), types_of(kBertVariants),
            types_of(kDecoderVariants));
}

}  // namespace

std::unique_ptr<LayeredEncoder> make_encoder(const EncoderOptions& options, ParameterStore& store) {
  EncoderOptions settled = options;
  settled.lora = with_adapter_settings(options.lora);
  if (settled.model.pooling == Pooling::kAuto) settled.model = with_folder_settings(options.model, options.lora);
  return std::make_unique<LayeredEncoder>(settled, make_backbone(settled, store), store);
}

}  // namespace vixen

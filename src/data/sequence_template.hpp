// The prompt around text and pictures as token ids, and the order of the parts of a sequence.
//   encoders   [images] text                                        (text with its [CLS] and [SEP])
//   decoders   [text prefix] text [image prefix][images] [closing]  (image prefix only where there are pictures)
//   images first: [image prefix][images] [text prefix] text [closing]
#pragma once

#include <cstdint>
#include <vector>

#include "config/config.hpp"
#include "data/dataset.hpp"

namespace vixen {

/// What a backbone is used to where [template] leaves a choice open.
struct PromptPolicy {
  bool prompted = false;        // the prompt is there by default
  bool images_first = true;     // order of pictures and text by default
  bool attention_sink = false;  // every position leans on the first one: a text's first token opens the sequence
};
inline constexpr PromptPolicy kEncoderPrompt{};
inline constexpr PromptPolicy kDecoderPrompt{.prompted = true, .images_first = false, .attention_sink = true};

struct SequenceTemplate {
  bool images_first = true;
  std::vector<int32_t> text_prefix, image_prefix, closing;
  /// The token that begins every text of the data set (Llama's <|begin_of_text|>), -1: none. It opens the sequence:
  /// where a piece precedes the text it is moved there, for it is the attention sink.
  int32_t bos = -1;
  /// compat.padded_positions of decoders: as the authors' code, every text takes text_slots positions (the pads'
  /// numbers are skipped), the image prefix is there without pictures too, and pictures take all image slots.
  bool decoder = false;
  int64_t text_slots = 0;

  int64_t prompt_tokens() const {
    return static_cast<int64_t>(text_prefix.size() + image_prefix.size() + closing.size());
  }
};

/// The template of a configuration. Strings are looked up among the data set's prompts: a UserError names the string
/// that is not there, those that are, and the command that adds it. Warns, once a process, when pictures come first
/// where the first position is an attention sink: a picture there costs accuracy. images: the model takes
/// pictures.
SequenceTemplate resolve_template(const TemplateConfig& config, const PromptPolicy& policy, bool images,
                                  const Dataset& dataset);

/// Whether sequences have the prompt.
bool is_prompted(const TemplateConfig& config, const PromptPolicy& policy);

}  // namespace vixen

// Finds a template's strings among the prompts that the data set holds tokenised.
#include "data/sequence_template.hpp"

#include <mutex>
#include <string>
#include <string_view>

#include "base/check.hpp"
#include "base/log.hpp"

namespace vixen {
namespace {

/// For messages of one line: control characters as \xNN.
std::string printable(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    out += byte < 0x20 || byte == 0x7F ? fmt::format("\\x{:02x}", byte) : std::string(1, c);
  }
  return out;
}

/// As an argument of a POSIX shell.
std::string shell_quoted(std::string_view text) {
  std::string out = "'";
  for (const char c : printable(text)) out += c == '\'' ? "'\\''" : std::string(1, c);
  return out + "'";
}

struct Piece {
  const char* key;
  const std::string* text;
  std::vector<int32_t>* tokens;
};

/// Gives the piece its tokens; false when the data set does not hold its string.
bool look_up(const Piece& piece, const Prompts& prompts) {
  for (int64_t i = 0; i < prompts.size(); ++i) {
    if (prompts.text(i) != *piece.text) continue;
    const auto tokens = prompts.tokens[i];
    piece.tokens->assign(tokens.begin(), tokens.end());
    return true;
  }
  return false;
}

[[noreturn]] void fail_missing(const std::vector<Piece>& missing, const Dataset& dataset) {
  const Prompts& prompts = dataset.prompts();
  std::string there, wanted;
  for (int64_t i = 0; i < prompts.size(); ++i) there += (i > 0 ? ", " : "") + shell_quoted(prompts.text(i));
  for (const Piece& piece : missing) wanted += " " + shell_quoted(*piece.text);
  const std::string path = dataset.path().string();
  fail_user(
      "{}: template.{} = {} is not among the prompts that the data set holds tokenised ({}): run "
      "tools/add_prompts.py {} --model MODEL{}",
      path, missing.front().key, shell_quoted(*missing.front().text), there.empty() ? "it has none" : there, path,
      wanted);
}

}  // namespace

bool is_prompted(const TemplateConfig& config, const PromptPolicy& policy) {
  return config.use == UseTemplate::kYes || (config.use == UseTemplate::kAuto && policy.prompted);
}

SequenceTemplate resolve_template(const TemplateConfig& config, const PromptPolicy& policy, bool images,
                                  const Dataset& dataset) {
  SequenceTemplate resolved;
  resolved.decoder = policy.attention_sink;
  resolved.images_first =
      config.order == PieceOrder::kAuto ? policy.images_first : config.order == PieceOrder::kImagesFirst;
  if (policy.attention_sink) {
    resolved.bos = dataset.info().bos_token;
    resolved.text_slots = dataset.info().max_length;
  }
  if (is_prompted(config, policy)) {
    std::vector<Piece> missing;
    for (const Piece& piece : {Piece{"text_prefix", &config.text_prefix, &resolved.text_prefix},
                               Piece{"image_prefix", &config.image_prefix, &resolved.image_prefix},
                               Piece{"closing", &config.closing, &resolved.closing}}) {
      if (piece.text->empty() || (piece.tokens == &resolved.image_prefix && !images)) continue;
      if (!look_up(piece, dataset.prompts())) missing.push_back(piece);
    }
    if (!missing.empty()) fail_missing(missing, dataset);
  }
  static std::once_flag warned;  // a run resolves its template for every pass
  if (policy.attention_sink && images && resolved.images_first)
    std::call_once(warned, [] {
      spdlog::warn(
          "template.order: pictures come first, and a decoder uses the first position as its attention sink: "
          "displacing the text from it costs accuracy (about 3.5 P@1 in the paper); expected text_first, but in "
          "ablations");
    });
  return resolved;
}

}  // namespace vixen

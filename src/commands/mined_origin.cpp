#include "commands/mined_origin.hpp"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/check.hpp"
#include "base/file.hpp"
#include "base/version.hpp"
#include "commands/common.hpp"
#include "commands/run_origin.hpp"
#include "config/keys.hpp"
#include "config/parse.hpp"
#include "data/dataset_identity.hpp"
#include "model/encoder_options.hpp"
#include "model/fusion/image_adapter.hpp"
#include "model/fusion/late_fusion.hpp"
#include "model/pack_options.hpp"
#include "model/weight_fingerprint.hpp"
#include "objective/objective.hpp"
#include "search/index.hpp"

namespace vixen {
namespace {

bool searches_prototypes(const Config& config) {
  return config.mining.against == MiningAgainst::kPrototypes;
}

/// Keys that decide what is found, a line each. Paths are not among them, for content is told apart by hashes, nor is
/// what cannot show in the lists.
std::string settings_text(const Config& config, int world_size) {
  constexpr std::array<std::string_view, 8> kNotInTheLists = {"threads",           "out",
                                                              "run.log_level",     "data.prefetch",
                                                              "mine.format",       "mine.positives",
                                                              "mine.part_queries", "comm.deadline_seconds"};
  std::string text;
  for (const auto& key : all_keys())
    if (key.read_by("mine") && key.path == PathRole::kNone &&
        std::ranges::find(kNotInTheLists, key.name) == kNotInTheLists.end())
      text += fmt::format("{} = {}\n", key.name, value_text(key, config));
  // An approximate index depends on the rows that a rank holds, and its search on the longest filter of a part.
  if (!index_kind(config.search.method).exact)
    text += fmt::format("ranks = {}\nmine.part_queries = {}\n", world_size, config.mine.part_queries);
  return text;
}

std::string model_content(const Config& config) {
  nlohmann::json content;
  for (const auto& folder : EncoderOptions{.model = config.model, .lora = config.lora}.folders()) {
    content.push_back(weight_fingerprint(folder));
    for (const char* name : {kImageAdapterFile, kFusionFile}) {
      std::error_code error;
      content.push_back(std::filesystem::exists(folder / name, error) ? checksum_file(folder / name) : 0);
    }
  }
  if (searches_prototypes(config)) content.push_back(checksum_file(label_embeddings_file(config.run.dir)));
  const std::string text = content.dump();
  return fmt::format("{:016x}", checksum(std::as_bytes(std::span(text))));
}

}  // namespace

void check_prototypes(const Config& config) {
  if (!searches_prototypes(config)) return;
  if (config.run.dir.empty())
    fail_user("mining.against = prototypes: they are those of a run: give --run.dir, or expected labels");
  if (!config.mine.corpus.empty())
    fail_user("mining.against = prototypes: the labels of mine.corpus = {} have none: expected labels",
              config.mine.corpus);
  Config run;
  const auto ini = std::filesystem::path(config.run.dir) / "config.ini";
  apply_ini(run, read_text(ini), ini.string());
  if (!make_objective(run)->uses_prototypes())
    fail_user("mining.against = prototypes: the run {} has none (train.method = {}): expected labels", config.run.dir,
              name_of(run.train.method));
}

std::unique_ptr<Dataset> open_corpus(const Config& config, const Dataset& dataset, const Encoder& encoder) {
  if (config.mine.corpus.empty()) return nullptr;
  auto corpus = std::make_unique<Dataset>(config.mine.corpus);
  const DatasetInfo &found = corpus->info(), &expected = dataset.info();
  if (found.tokenizer_sha256 != expected.tokenizer_sha256)
    fail_user(
        "{}: tokenised with a tokenizer.json of SHA-256 {}, expected that of {}, {}: labels are compared by their "
        "tokens",
        config.mine.corpus, found.tokenizer_sha256.substr(0, 12), config.data.path,
        expected.tokenizer_sha256.substr(0, 12));
  if (found.max_length != expected.max_length)
    fail_user("{}: texts are cut at {} tokens, expected {} as in {}: labels are compared by their tokens",
              config.mine.corpus, found.max_length, expected.max_length, config.data.path);
  const int64_t width = image_width(config, *corpus), taken = image_width(config, dataset);
  if (width != 0 && width != taken)
    fail_user("{}: picture embeddings are {} wide, expected {} as in {} (or --data.images false)", config.mine.corpus,
              width, taken == 0 ? "none" : std::to_string(taken), config.data.path);
  check_fits(encoder, *corpus, pack_options(config, encoder, *corpus));
  return corpus;
}

MinedAttributes mined_origin(const Config& config, const Dataset& dataset, const Dataset* corpus, int world_size) {
  const DatasetIdentity& asked = dataset.identity();
  const DatasetIdentity& searched = corpus == nullptr ? asked : corpus->identity();
  MinedAttributes attributes = {{"format", kMinedFormat},
                                {"created_by", created_by("mine")},
                                {kMinedSettings, settings_text(config, world_size)},
                                {kQueriesContent, config.data.split == Split::kTrain ? asked.train : asked.test},
                                {kLabelsContent, searched.label},
                                {kImagesContent, asked.images},
                                {kModelContent, model_content(config)}};
  if (corpus != nullptr) {
    attributes[kRelevantContent] = asked.label;
    attributes[kImagesContent] += " " + searched.images;
  }
  return attributes;
}

}  // namespace vixen

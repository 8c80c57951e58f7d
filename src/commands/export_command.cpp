// vixen export: a trained model in the formats of others.
#include <ATen/ATen.h>

#include <limits>

#include "base/check.hpp"
#include "base/file.hpp"
#include "base/log.hpp"
#include "base/made_folder.hpp"
#include "base/progress.hpp"
#include "base/same_file.hpp"
#include "base/version.hpp"
#include "comm/on_root.hpp"
#include "commands/commands.hpp"
#include "commands/common.hpp"
#include "commands/export_folder.hpp"
#include "commands/outputs.hpp"
#include "commands/run_origin.hpp"
#include "commands/text_table.hpp"
#include "data/hdf5_matrix.hpp"
#include "model/adapters/adapter_files.hpp"
#include "model/fusion/late_fusion.hpp"
#include "model/make_encoder.hpp"
#include "model/pack_options.hpp"
#include "model/weights/backbone_weights.hpp"
#include "model/weights/weight_files.hpp"
#include "search/faiss_flat_index.hpp"

namespace vixen {
namespace {

constexpr int64_t kBlockRows = 65536;  // label representations read at once

// Whether every matrix of a folder's weights is bfloat16: then a bf16 copy of it is the file itself.
bool stored_in_bfloat16(const std::filesystem::path& folder) {
  const WeightFiles files(folder);
  for (const auto& name : files.names()) {
    const at::Tensor tensor = files.tensor(name);
    if (tensor.dim() >= 2 && tensor.scalar_type() != at::kBFloat16) return false;
  }
  return true;
}

// The run's encoder with weights that a merge may read: adapters in float32 (as trained ones are), the base exactly as
// it is stored. On the CPU: nothing is computed but the merge.
std::unique_ptr<LoadedEncoder> load_exact(const EncoderOptions& options, uint64_t seed) {
  const Stage stage("load weights");
  auto loaded = std::make_unique<LoadedEncoder>();
  loaded->encoder = make_encoder(options, loaded->store);
  const bool bf16 = options.trainable && stored_in_bfloat16(options.model.path);
  loaded->encoder->files().check();
  loaded->store.allocate(at::kCPU, bf16 ? at::kBFloat16 : at::kFloat);
  loaded->encoder->files().load(seed);
  return loaded;
}

// Bytes of merged weights, about: every parameter that is registered.
int64_t merged_bytes(EncoderOptions options, const Config& config) {
  options.lora = LoraConfig{};
  ParameterStore store;
  const auto encoder = make_encoder(options, store);
  int64_t elements = 0;
  for (int i = 0; i < store.count(); ++i) elements += store.info(i).elements();
  return elements * (config.export_.dtype == ExportType::kBfloat16 ? 2 : 4);
}

// A folder's file, if it is there, into another folder.
void copy_file(const std::string& name, const std::filesystem::path& from, const std::filesystem::path& to) {
  if (!std::filesystem::exists(from / name)) return;
  write_atomically(to / name, [&](const std::filesystem::path& temporary) {
    std::error_code error;
    std::filesystem::copy_file(from / name, temporary, std::filesystem::copy_options::overwrite_existing, error);
    if (error) fail_user("{}: cannot write: {}", (to / name).string(), error.message());
  });
}

void export_adapter(const Config& config, const std::filesystem::path& folder) {
  const auto run = model_folder(config.run.dir);
  copy_tokenizer(run, folder);
  for (const char* name : {kImageAdapterFile, kFusionFile, kAdapterWeightFile, kAdapterConfigFile})
    copy_file(name, run, folder);
}

// peft, merged or sentence-transformers.
void export_model(const Config& config) {
  const ExportFormat format = config.export_.format;
  const bool adapter = !config.lora.adapter.empty();  // with_run_settings has looked
  if (format == ExportFormat::kPeft && !adapter)
    fail_user(
        "{}: the run trained the whole backbone and has no adapter; expected export.format = merged or "
        "sentence-transformers",
        model_folder(config.run.dir).string());
  const auto dataset = open_dataset(config);
  EncoderOptions options;
  options.model = config.model;
  options.lora = config.lora;
  options.image_width = image_width(config, *dataset);
  options.trainable = adapter;

  FolderWriter writer(write_target(config.out), created_by("export"), fmt::format("export {}", name_of(format)));
  const auto& folder = writer.folder();
  const auto describe = [&](const Encoder& encoder) {
    auto description = describe_model(config, encoder, *dataset);
    write_loader(folder, description);
    write_readme(folder, format, description);
    return description;
  };
  if (format == ExportFormat::kPeft) {
    ParameterStore store;
    describe(*make_encoder(options, store));
    export_adapter(config, folder);
    writer.publish();
    return;
  }
  check_room(config.out, merged_bytes(options, config), "merged weights");
  const auto loaded = load_exact(options, config.train.seed);
  const auto description = describe(*loaded->encoder);
  const Stage stage("write merged weights");
  loaded->encoder->files().save_merged(folder,
                                       config.export_.dtype == ExportType::kBfloat16 ? at::kBFloat16 : at::kFloat,
                                       config.export_.max_shard_mb * 1000000);
  if (format == ExportFormat::kSentenceTransformers) write_sentence_transformers(folder, description);
  writer.publish();
}

// The index file, and the labels' texts beside it.
std::filesystem::path export_index(const Config& config) {
  const auto files = index_files(config.out);
  const std::filesystem::path &path = files[0], &text_path = files[1], &record = files[2];
  const MatrixReader reader({label_embeddings_file(config.run.dir), "/embeddings"});
  const auto dataset = open_dataset(config);
  check_labels_are_the_runs(config.run.dir, *dataset, reader.rows(), "the index needs the data set of the run");
  check_room(path, reader.rows() * reader.columns() * static_cast<int64_t>(sizeof(float)), "the index");
  FaissFlatIndex index(at::empty({0, reader.columns()}));
  Progress progress("index", "labels", reader.rows(), true);
  for (int64_t first = 0; first < reader.rows(); first += kBlockRows) {
    const RowRange range{first, std::min(first + kBlockRows, reader.rows())};
    index.add(reader.read(range, /*check_finite=*/true));
    progress.advance(range.size());
  }
  progress.finish();
  const Stage stage("write the index");
  std::string texts;
  for (int64_t label = 0; label < reader.rows(); ++label)
    texts += shortened(std::string(dataset->labels().text(label)), std::numeric_limits<size_t>::max()) + "\n";
  // The record first: by it the others are known for ours, should the next call find them half made.
  write_json(record, {{"created_by", created_by("export")},
                      {"labels", reader.rows()},
                      {"labels_content", dataset->identity().label},
                      {"files", {path.filename().string(), text_path.filename().string()}}});
  write_text_atomically(text_path, texts);
  index.save(path);
  return path;
}

}  // namespace

int export_command(const Config& asked, MpiSession& session) {
  const auto comm = start_job(asked, session);
  if (asked.run.dir.empty()) fail_user("--run.dir is missing: give the folder of a finished run");
  if (asked.out.empty()) fail_user("--out is missing: give the folder to write (for faiss: the file)");
  const auto config = with_run_settings(asked);
  on_root(*comm, [&] {
    if (config.export_.format == ExportFormat::kFaiss) {
      const auto index = export_index(config);
      spdlog::info("{}: inner-product index of the run's labels, their texts in {}", index.string(),
                   index_files(index)[1].string());
    } else {
      export_model(config);
      spdlog::info("{}: {} folder", config.out, name_of(config.export_.format));
    }
  });
  return 0;
}

}  // namespace vixen

// Every key with its place, unit, source, limits and meaning.
#include "config/keys.hpp"

#include <limits>

namespace vixen {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr Range kAny{-kInfinity, kInfinity, false, "a number"};
constexpr Range kAtLeast0{0, kInfinity, false, "at least 0"};
constexpr Range kAtLeast1{1, kInfinity, false, "at least 1"};
constexpr Range kProbability{0, 1, true, "in [0, 1)"};
constexpr Range kDropoutOrNone{-kInfinity, 1, true, "below 1 (negative: what config.json says)"};
constexpr Range kCosineGap{0, 2, false, "in [0, 2]"};
constexpr Range kPositive{std::numeric_limits<double>::min(), kInfinity, false, "above 0"};
constexpr Range kThreads{0, 4096, false, "in [0, 4096]"};

template <typename E>
EnumField named(E& value, std::vector<std::string> names) {
  return {std::move(names), [&value] { return static_cast<size_t>(value); },
          [&value](size_t place) { value = static_cast<E>(place); }};
}
EnumField kernel(KernelChoice& value) {
  return named(value, {"auto", "reference", "fused"});
}

// Two lines a key, read as a table.
// clang-format off
// The lambda that finds a member of a Config.
#define VIXEN_FIELD(member) [](Config& c) -> Field { return &c.member; }
// The same for an enum: a call that wraps it.
#define VIXEN_ENUM(call) [](Config& c) -> Field { return call; }

std::vector<Key> make_keys() {
  const auto paper = KeySource::kPaper;
  const auto official = KeySource::kOfficial;
  const auto ours = KeySource::kOurs;
  return {
      {"device", VIXEN_FIELD(device), "", ours, {}, {"cpu", "cuda"},
       "Where numerics run"},
      {"threads", VIXEN_FIELD(threads), "threads a rank", ours, kThreads, {},
       "CPU threads; 0: the CPUs of the rank's share of its node"},
      {"out", VIXEN_FIELD(out), "", ours, {}, {},
       "File that embed, search, predict, evaluate, plan and bench write; folder (faiss: file) of export", PathRole::kOutput},

      {"run.dir", VIXEN_FIELD(run.dir), "", ours, {}, {},
       "Folder of a run: config, metrics, checkpoints, model", PathRole::kRun},
      {"run.log_level", VIXEN_FIELD(run.log_level), "", ours, {}, {"debug", "info", "warning", "error"},
       "Least severe message shown; debug shows every rank's"},
      {"run.log_every_steps", VIXEN_FIELD(run.log_every_steps), "steps", ours, kAtLeast1, {},
       "Steps between two lines of metrics.jsonl"},
      {"run.checkpoint_every_steps", VIXEN_FIELD(run.checkpoint_every_steps), "steps", ours, kAtLeast0, {},
       "Steps between checkpoints; 0: at the end of every epoch only"},
      {"run.keep_last", VIXEN_FIELD(run.keep_last), "checkpoints", ours, kAtLeast1, {},
       "Newest checkpoints kept, besides the best"},
      {"run.resume", VIXEN_FIELD(run.resume), "", ours, {}, {},
       "Go on from the newest checkpoint in run.dir"},
      {"run.stop_after_steps", VIXEN_FIELD(run.stop_after_steps), "steps", ours, kAtLeast0, {},
       "Save and stop (exit code 75) after this many steps of this process; 0: never"},

      {"data.path", VIXEN_FIELD(data.path), "", ours, {}, {},
       "The prepared data set (HDF5, docs/data-format.md)", PathRole::kInput},
      {"data.split", VIXEN_FIELD(data.split), "", ours, {}, {"train", "test"},
       "Queries that embed, evaluate and predict read"},
      {"data.images", VIXEN_FIELD(data.images), "", paper, {}, {},
       "Use the pictures that the data set has"},
      {"data.query_images", VIXEN_FIELD(data.query_images), "", ours, {}, {},
       "Give queries their pictures; false: text-only answers of a model that was trained with pictures"},
      {"data.prefetch", VIXEN_FIELD(data.prefetch), "batches", ours, kAtLeast0, {},
       "Batches packed ahead of the step that reads them"},
      {"data.propensity_a", VIXEN_FIELD(data.propensity_a), "", official, kAny, {},
       "Propensity constant A; negative: what the data set says"},
      {"data.propensity_b", VIXEN_FIELD(data.propensity_b), "", official, kAny, {},
       "Propensity constant B; negative: what the data set says"},

      {"model.path", VIXEN_FIELD(model.path), "", paper, {}, {},
       "Hugging Face folder of the backbone (config.json, model.safetensors, tokenizer.json)", PathRole::kInput},
      {"model.layers", VIXEN_FIELD(model.layers), "layers", paper, kAtLeast0, {},
       "Use the first N layers only; 0: all"},
      {"model.compute", VIXEN_ENUM(named(c.model.compute, {"fp32", "bf16"})), "", ours, {}, {},
       "Precision of the backbone's matrix products; weights, loss and sums are fp32 in both"},
      {"model.pooling", VIXEN_ENUM(named(c.model.pooling, {"auto", "mean", "last", "cls"})), "", paper, {}, {},
       "How positions become one embedding: their mean, the last one, or [CLS] (encoders); auto: as the folder's "
       "sentence-transformers files say, else mean"},
      {"model.dropout", VIXEN_FIELD(model.dropout), "probability", official, kDropoutOrNone, {},
       "Hidden and attention dropout; negative: what config.json says"},
      {"model.check_tokenizer", VIXEN_FIELD(model.check_tokenizer), "", ours, {}, {},
       "Refuse a data set that another tokenizer prepared"},
      {"model.mask", VIXEN_ENUM(named(c.model.mask, {"auto", "causal", "bidirectional"})), "", paper, {}, {},
       "What a position attends to; auto: causal in decoders, bidirectional in encoders"},
      {"model.fusion", VIXEN_ENUM(named(c.model.fusion, {"early", "late"})), "", paper, {}, {},
       "Pictures as positions of the sequence, or fused behind the pooling by one cross-attention block (MUFIN)"},
      {"model.fusion_heads", VIXEN_FIELD(model.fusion_heads), "heads", ours, kAtLeast1, {},
       "Attention heads of late fusion's block"},
      {"model.image_adapter", VIXEN_ENUM(named(c.model.image_adapter, {"linear", "mlp"})), "", paper, {}, {},
       "Map from picture embeddings to the backbone's width: the paper's linear one, or linear-GELU-linear"},
      {"model.image_adapter_width", VIXEN_FIELD(model.image_adapter_width), "units", ours, kAtLeast0, {},
       "Hidden units of the mlp; 0: the backbone's width"},

      {"lora.rank", VIXEN_FIELD(lora.rank), "", paper, kAtLeast0, {},
       "Rank of the adapters beside frozen weights (paper: 256); 0: none, the whole backbone is trained"},
      {"lora.alpha", VIXEN_FIELD(lora.alpha), "", paper, kPositive, {},
       "Numerator of the adapters' scale"},
      {"lora.scale", VIXEN_ENUM(named(c.lora.scale, {"rslora", "classic"})), "", paper, {}, {},
       "alpha / sqrt(rank), or alpha / rank"},
      {"lora.dropout", VIXEN_FIELD(lora.dropout), "probability", paper, kProbability, {},
       "Dropout in front of the adapters"},
      {"lora.modules", VIXEN_FIELD(lora.modules), "", paper, {}, {},
       "Projections with an adapter: a list of q, k, v, o, gate, up, down (encoders have no gate)"},
      {"lora.adapter", VIXEN_FIELD(lora.adapter), "", ours, {}, {},
       "PEFT folder whose adapters training starts from, or that the model is read with; sets rank, alpha, scale and modules", PathRole::kInput},

      {"template.use", VIXEN_ENUM(named(c.prompt.use, {"auto", "yes", "no"})), "", paper, {}, {},
       "Put the prompt around text and pictures; auto: decoders yes, encoders no"},
      {"template.order", VIXEN_ENUM(named(c.prompt.order, {"auto", "text_first", "images_first"})), "", paper, {}, {},
       "What comes first; auto: decoders text, encoders pictures"},
      {"template.text_prefix", VIXEN_FIELD(prompt.text_prefix), "", paper, {}, {},
       "Prompt in front of the text; empty: none"},
      {"template.image_prefix", VIXEN_FIELD(prompt.image_prefix), "", paper, {}, {},
       "Prompt in front of the pictures, where there are any; empty: none"},
      {"template.closing", VIXEN_FIELD(prompt.closing), "", paper, {}, {},
       "Prompt at the end of every sequence; empty: none"},

      {"train.method", VIXEN_ENUM(named(c.train.method, {"prime", "ngame", "triplet"})), "", paper, {}, {},
       "Training method: with label prototypes, without, or the paper's plain triplet equation"},
      {"train.epochs", VIXEN_FIELD(train.epochs), "epochs", ours, kAtLeast0, {},
       "Passes over the training queries (paper: 300 text, 150 with pictures, on Amazon sets)"},
      {"train.batch_size", VIXEN_FIELD(train.batch_size), "queries", ours, kAtLeast1, {},
       "Queries of a step, over all ranks (paper: 2048)"},
      {"train.seed", VIXEN_FIELD(train.seed), "", ours, {}, {},
       "Everything random is a function of it"},
      {"train.lr", VIXEN_FIELD(train.lr), "", paper, kAtLeast0, {},
       "Peak learning rate of the backbone (MiniLM 5e-4, DistilBERT 2e-4, BERT 1e-4)"},
      {"train.prototype_lr", VIXEN_FIELD(train.prototype_lr), "", paper, kAtLeast0, {},
       "Peak learning rate of the prototype network and the free vectors"},
      {"train.image_lr", VIXEN_FIELD(train.image_lr), "", paper, kAtLeast0, {},
       "Peak learning rate of the image projection"},
      {"train.weight_decay", VIXEN_FIELD(train.weight_decay), "", official, kAtLeast0, {},
       "AdamW's decay (not of biases, backbone norms and free vectors)"},
      {"train.adam_beta1", VIXEN_FIELD(train.adam_beta1), "", official, kProbability, {},
       "Decay of AdamW's first moment"},
      {"train.adam_beta2", VIXEN_FIELD(train.adam_beta2), "", official, kProbability, {},
       "Decay of AdamW's second moment"},
      {"train.adam_eps", VIXEN_FIELD(train.adam_eps), "", official, kPositive, {},
       "AdamW's epsilon"},
      {"train.warmup_steps", VIXEN_FIELD(train.warmup_steps), "steps", official, kAtLeast0, {},
       "Steps over which the learning rate rises, before it falls linearly to 0"},
      {"train.clip_norm", VIXEN_FIELD(train.clip_norm), "", official, kAtLeast0, {},
       "Largest norm of the whole gradient; 0: no clipping (decoders: 1)"},
      {"train.evaluate_every_epochs", VIXEN_FIELD(train.evaluate_every_epochs), "epochs", ours, kAtLeast0, {},
       "Epochs between evaluations; 0: after the last only"},
      {"train.best_metric", VIXEN_FIELD(train.best_metric), "", ours, {}, {},
       "Metric by which the best checkpoint is kept"},
      {"train.image_dropout", VIXEN_FIELD(train.image_dropout), "probability", ours, kProbability, {},
       "Sequences of a training step that go without their pictures, so that the model also answers text alone"},
      {"train.memory_gb", VIXEN_FIELD(train.memory_gb), "1e9 bytes a rank", ours, kAtLeast0, {},
       "Memory budget, kept by tables in host memory, recomputing layers, gradient caching in chunks; 0: none"},
      {"train.chunks", VIXEN_FIELD(train.chunks), "chunks", ours, kAtLeast0, {},
       "Gradient caching: parts of a rank's batch that are embedded, and embedded again for their gradients, one after "
       "the other; 0: as train.memory_gb asks"},
      {"train.recompute_layers", VIXEN_FIELD(train.recompute_layers), "layers", ours, kAny, {},
       "First layers whose activations are computed again in the backward pass; negative: as train.memory_gb asks"},
      {"train.tables", VIXEN_ENUM(named(c.train.tables, {"auto", "device", "host"})), "", ours, {}, {},
       "Where the query bank and the centroids live: on the device, in host memory, or (auto) in host memory when the "
       "budget is short"},

      {"loss.negatives", VIXEN_FIELD(loss.negatives), "labels", official, kAtLeast1, {},
       "Hardest negatives of a row"},
      {"loss.margin_min", VIXEN_FIELD(loss.margin_min), "cosine", official, kCosineGap, {},
       "Least margin between positive and negative"},
      {"loss.margin_max", VIXEN_FIELD(loss.margin_max), "cosine", official, kCosineGap, {},
       "Largest margin"},
      {"loss.temperature", VIXEN_FIELD(loss.temperature), "cosine", official, kPositive, {},
       "Temperature of the softmax that weighs negatives"},
      {"loss.regulariser_weight", VIXEN_FIELD(loss.regulariser_weight), "", paper, kAtLeast0, {},
       "Weight of the term that keeps prototypes at least as good as label embeddings"},
      {"loss.regulariser_margin", VIXEN_FIELD(loss.regulariser_margin), "cosine", official, kCosineGap, {},
       "Margin of that term"},
      {"loss.fixed_positive", VIXEN_FIELD(loss.fixed_positive), "", official, {}, {},
       "Take the drawn label of a row as its positive in every term, instead of an own draw for each"},
      {"loss.tie_gradient", VIXEN_ENUM(named(c.loss.tie_gradient, {"half", "zero"})), "", official, {}, {},
       "Gradient of max(0, x) at x = 0, which satisfied rows sit on"},

      {"prototype.free_vectors", VIXEN_FIELD(prototype.free_vectors), "vectors", paper, kAtLeast1, {},
       "Trained vectors shared by clusters of labels; rounded up to a power of two, at most the largest one <= labels"},
      {"prototype.heads", VIXEN_FIELD(prototype.heads), "heads", paper, kAtLeast1, {},
       "Attention heads of the prototype network"},
      {"prototype.feed_forward", VIXEN_FIELD(prototype.feed_forward), "units", official, kAtLeast1, {},
       "Width of its feed-forward part"},
      {"prototype.dropout", VIXEN_FIELD(prototype.dropout), "probability", official, kProbability, {},
       "Its dropout, attention weights included"},
      {"prototype.init", VIXEN_ENUM(named(c.prototype.init, {"xavier", "mean"})), "", official, {}, {},
       "Free vectors at first: Xavier-uniform (encoders) or the mean of the cluster's labels (decoders)"},

      {"cluster.start_epoch", VIXEN_FIELD(cluster.start_epoch), "epoch (0-based)", official, kAtLeast0, {},
       "First epoch at whose end queries are clustered into batches of neighbours"},
      {"cluster.update_epochs", VIXEN_FIELD(cluster.update_epochs), "epochs", official, kAtLeast1, {},
       "Epochs between clusterings"},
      {"cluster.size", VIXEN_FIELD(cluster.size), "queries", official, kAtLeast1, {},
       "Queries of a cluster at first"},
      {"cluster.double_at", VIXEN_FIELD(cluster.double_at), "epochs (0-based)", official, kAtLeast0, {},
       "Epochs at whose end the cluster size doubles"},

      {"search.corpus", VIXEN_FIELD(search.corpus), "", ours, {}, {},
       "Rows to search in: FILE.h5[:/dataset], default dataset /embeddings", PathRole::kInput},
      {"search.queries", VIXEN_FIELD(search.queries), "", ours, {}, {},
       "Rows to search for: FILE.h5[:/dataset]", PathRole::kInput},
      {"search.k", VIXEN_FIELD(search.k), "rows", ours, kAtLeast1, {},
       "Best rows kept for each query"},
      {"search.method", VIXEN_FIELD(search.method), "", ours, {}, {"exact", "faiss_flat"},
       "Search algorithm; both are exact"},
      {"search.prefilter", VIXEN_FIELD(search.prefilter), "", ours, {}, {"auto", "fp32", "bf16"},
       "Precision of the product that finds candidates; the answers are the same"},
      {"search.block_queries", VIXEN_FIELD(search.block_queries), "rows", ours, kAtLeast1, {},
       "Queries of a block of scores"},
      {"search.block_labels", VIXEN_FIELD(search.block_labels), "rows", ours, kAtLeast1, {},
       "Labels of a block of scores"},
      {"search.cosine", VIXEN_FIELD(search.cosine), "", paper, {}, {},
       "Normalise rows first"},

      {"evaluate.predictions", VIXEN_FIELD(evaluate.predictions), "", ours, {}, {},
       "FILE.h5 with /indices and /scores, instead of a run", PathRole::kInput},
      {"evaluate.filter", VIXEN_ENUM(named(c.evaluate.filter, {"before", "official"})), "", ours, {}, {},
       "Drop filtered pairs before the cut at k, or after it as the authors' code does"},
      {"evaluate.k", VIXEN_FIELD(evaluate.k), "labels", ours, kAtLeast1, {},
       "Longest ranking that metrics look at"},

      {"predict.k", VIXEN_FIELD(predict.k), "labels", ours, kAtLeast1, {},
       "Labels predicted for each query"},
      {"predict.text", VIXEN_FIELD(predict.text), "", ours, {}, {},
       "Write TSV with label names instead of HDF5 (short: --text)"},

      {"embed.side", VIXEN_FIELD(embed.side), "", ours, {}, {"queries", "labels"},
       "What to encode"},
      {"embed.dtype", VIXEN_FIELD(embed.dtype), "", ours, {}, {"fp16", "fp32"},
       "Precision of the file"},
      {"embed.prototypes", VIXEN_FIELD(embed.prototypes), "", paper, {}, {},
       "Labels: write prototypes instead of plain embeddings"},
      {"embed.chunk_rows", VIXEN_FIELD(embed.chunk_rows), "rows", ours, kAtLeast1, {},
       "Rows of a forward pass"},

      {"export.format", VIXEN_FIELD(export_.format), "", ours, {}, {"peft", "merged", "sentence-transformers", "faiss"},
       "Adapters as a PEFT folder, merged weights as a Hugging Face folder, the same with pooling and template for "
       "sentence-transformers, or the labels as a FAISS index"},
      {"export.dtype", VIXEN_FIELD(export_.dtype), "", ours, {}, {"fp32", "bf16"},
       "Precision of merged weights"},
      {"export.max_shard_mb", VIXEN_FIELD(export_.max_shard_mb), "1e6 bytes", ours, kAtLeast1, {},
       "Merged weights go to files of at most this size"},

      {"plan.gpu", VIXEN_FIELD(plan.gpu), "", ours, {}, {"h100", "h200", "a100-80", "a100-40", "cpu"},
       "Device to plan for: its memory and rates"},
      {"plan.world_size", VIXEN_FIELD(plan.world_size), "ranks", ours, kAtLeast1, {},
       "Ranks to plan for, one a GPU"},
      {"plan.memory_gb", VIXEN_FIELD(plan.memory_gb), "1e9 bytes", ours, kAtLeast0, {},
       "Memory of a rank; 0: train.memory_gb, else the device's"},
      {"plan.tflops", VIXEN_FIELD(plan.tflops), "1e12 FLOP/s", ours, kAtLeast0, {},
       "Rate that matrix products reach; 0: of the device"},
      {"plan.bandwidth_gbs", VIXEN_FIELD(plan.bandwidth_gbs), "1e9 bytes/s", ours, kAtLeast0, {},
       "Bus bandwidth of an all-reduce; 0: of the device"},
      {"plan.queries", VIXEN_FIELD(plan.queries), "queries", ours, kAtLeast0, {},
       "Training queries; 0: of the data set"},
      {"plan.labels", VIXEN_FIELD(plan.labels), "labels", ours, kAtLeast0, {},
       "Labels; 0: of the data set"},
      {"plan.mean_tokens", VIXEN_FIELD(plan.mean_tokens), "tokens", ours, kAtLeast0, {},
       "Mean length of a text; 0: of the data set"},
      {"plan.longest_tokens", VIXEN_FIELD(plan.longest_tokens), "tokens", ours, kAtLeast0, {},
       "Longest text; 0: of the data set"},
      {"plan.images_per_row", VIXEN_FIELD(plan.images_per_row), "pictures", ours, kAtLeast0, {},
       "Mean number of pictures of a query or label"},
      {"plan.image_slots", VIXEN_FIELD(plan.image_slots), "pictures", ours, kAtLeast0, {},
       "Most pictures of a row"},
      {"plan.image_width", VIXEN_FIELD(plan.image_width), "", ours, kAtLeast0, {},
       "Width of a picture embedding"},
      {"plan.prompt_tokens", VIXEN_FIELD(plan.prompt_tokens), "tokens", ours, kAtLeast0, {},
       "Tokens of the whole prompt, where no data set says"},

      {"comm.deadline_seconds", VIXEN_FIELD(comm.deadline_seconds), "seconds", ours, kPositive, {},
       "A collective without progress for this long ends the job"},

      {"kernels.attention", VIXEN_ENUM(kernel(c.kernels.attention)), "", ours, {}, {},
       "Attention. auto: fused where the device has it; fused: an error where it has not; reference: plain ATen"},
      {"kernels.norm", VIXEN_ENUM(kernel(c.kernels.norm)), "", ours, {}, {},
       "Layer, RMS and head norm: as kernels.attention"},
      {"kernels.dropout", VIXEN_ENUM(kernel(c.kernels.dropout)), "", ours, {}, {},
       "Dropout outside of norms and attention: as kernels.attention"},
      {"kernels.rope", VIXEN_ENUM(kernel(c.kernels.rope)), "", ours, {}, {},
       "Rotary positions: as kernels.attention"},
      {"kernels.activation", VIXEN_ENUM(kernel(c.kernels.activation)), "", ours, {}, {},
       "GELU, SwiGLU and bias gradients: as kernels.attention"},
      {"kernels.embedding", VIXEN_ENUM(kernel(c.kernels.embedding)), "", ours, {}, {},
       "Input embeddings: as kernels.attention"},
      {"kernels.pooling", VIXEN_ENUM(kernel(c.kernels.pooling)), "", ours, {}, {},
       "Mean pooling: as kernels.attention"},
      {"kernels.adamw", VIXEN_ENUM(kernel(c.kernels.adamw)), "", ours, {}, {},
       "The optimiser's update: as kernels.attention"},

      {"compat.padded_positions", VIXEN_FIELD(compat.padded_positions), "", official, {}, {},
       "Number positions as the authors' code does, where a missing picture takes one"},
  };
}

// clang-format on
#undef VIXEN_FIELD
#undef VIXEN_ENUM

}  // namespace

const char* name_of(KeySource source) {
  switch (source) {
    case KeySource::kPaper:
      return "paper";
    case KeySource::kOfficial:
      return "official code";
    case KeySource::kOurs:
      return "ours";
  }
  return "";
}

const std::vector<Key>& all_keys() {
  static const std::vector<Key> keys = make_keys();
  return keys;
}

}  // namespace vixen

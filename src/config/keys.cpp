// Every key with its place, unit, source, limits, readers and meaning.
#include "config/keys.hpp"

#include <algorithm>
#include <limits>
#include <type_traits>

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
constexpr Range kFraction{0, 1, false, "in [0, 1]"};
constexpr Range kDepth{1, 16384, false, "in [1, 16384]"};
constexpr Range kLinks{2, 1024, false, "in [2, 1024]"};

// The member as a Field; an enum with its words.
template <typename T>
Field field_of(T& value) {
  if constexpr (std::is_enum_v<T>) {
    return EnumField{{kWords<T>.begin(), kWords<T>.end()},
                     [&value] { return static_cast<size_t>(value); },
                     [&value](size_t place) { value = static_cast<T>(place); }};
  } else {
    return &value;
  }
}

std::string search_method_help() {
  std::string text = "How labels are searched (docs/search.md)";
#define VIXEN_INDEX(enumerator, name, exact, help) text.append("; " #name ": " help);
#include "config/search_methods.inl"
#undef VIXEN_INDEX
  return text;
}

std::string prefilter_help() {
  std::string text =
      "exact, on a CPU: how candidates are found; the answers are the same (docs/search.md); auto: whichever is "
      "fastest on this machine, which is timed";
#define VIXEN_PREFILTER(enumerator, name, widest, help) text.append("; " #name ": " help);
#include "config/prefilters.inl"
#undef VIXEN_PREFILTER
  return text;
}

// Two lines a key, read as a table.
// clang-format off
// The lambda that finds a member of a Config.
#define VIXEN_FIELD(member) [](Config& c) -> Field { return field_of(c.member); }

std::vector<Key> make_keys() {
  const auto paper = KeySource::kPaper;
  const auto official = KeySource::kOfficial;
  const auto ours = KeySource::kOurs;
  // Who reads a key. What --data.path, --model.path... describe is read by all that open it; a group is named for what its commands do.
  using Names = std::vector<std::string>;
  const Names kAll = {"train", "embed", "search", "evaluate", "predict", "mine", "export", "plan", "inspect", "bench", "doctor"};
  const Names kJobs = {"train", "embed", "search", "evaluate", "predict", "mine", "export", "plan", "bench", "doctor"};  // start a job
  const Names kDevices = {"train", "embed", "search", "evaluate", "predict", "mine", "bench", "doctor"};  // compute with tensors
  const Names kWriters = {"embed", "search", "evaluate", "predict", "mine", "export", "plan", "bench", "doctor"};  // write --out
  const Names kRuns = {"train", "embed", "evaluate", "predict", "mine", "export"};  // make or use a run
  const Names kDataSets = {"train", "embed", "evaluate", "predict", "mine", "export", "plan", "bench"};  // open a data set
  const Names kModels = {"train", "embed", "evaluate", "predict", "mine", "plan", "bench"};  // make a model (export: the run's)
  const Names kEncoders = {"train", "embed", "evaluate", "predict", "mine", "bench"};  // run it
  const Names kQueryEncoders = {"train", "embed", "evaluate", "predict", "mine"};  // run it on queries that ask
  const Names kAskers = {"embed", "predict", "mine"};  // choose those queries
  const Names kPropensities = {"train", "evaluate", "bench"};
  const Names kTrain = {"train"};
  const Names kSteps = {"train", "bench"};  // take training steps
  const Names kPlanned = {"train", "plan", "bench"};  // count the memory of a training step
  const Names kRunPlans = {"train", "plan"};  // take a whole run, or its time
  const Names kSearch = {"search"};
  const Names kSearchWidths = {"search", "bench"};
  const Names kRetrievers = {"search", "evaluate", "predict", "mine"};  // choose how to search
  const Names kSearchers = {"train", "search", "evaluate", "predict", "mine", "bench"};  // search
  const Names kSearchPlans = {"train", "search", "evaluate", "predict", "mine", "plan", "bench"};  // search, or count its memory
  const Names kAnswerers = {"evaluate", "predict"};  // answer with labels of a data set
  const Names kEvaluate = {"evaluate"};
  const Names kMetrics = {"train", "evaluate"};
  const Names kRankings = {"train", "evaluate", "plan", "bench"};  // rank for metrics, or count the memory of it
  const Names kPredict = {"predict"};
  const Names kEmbed = {"embed"};
  const Names kExport = {"export"};
  const Names kPlan = {"plan"};
  const Names kMine = {"mine"};
  const Names kDoctor = {"doctor"};
  const Names kMiners = {"train", "mine"};  // mine negatives
  const Names kMinersPlanned = {"train", "mine", "plan", "bench"};  // or count the memory of it
  const Names kMinersSteps = {"train", "mine", "bench"};  // or take steps with them
  return {
      {"device", VIXEN_FIELD(device), "", ours, {}, kDevices, kNoFact,
       "Where numerics run"},
      {"threads", VIXEN_FIELD(threads), "threads a rank", ours, kThreads, kJobs, kNoFact,
       "CPU threads; 0: the CPUs of the rank's share of its node"},
      {"out", VIXEN_FIELD(out), "", ours, {}, kWriters, kNoFact,
       "File that embed, search, predict, evaluate, mine, plan, bench and doctor write; folder (faiss: file) of export", PathRole::kOutput},

      {"run.dir", VIXEN_FIELD(run.dir), "", ours, {}, kRuns, kNoFact,
       "Folder of a run: config, metrics, checkpoints, model", PathRole::kRun},
      {"run.log_level", VIXEN_FIELD(run.log_level), "", ours, {}, kAll, kNoFact,
       "Least severe message shown; debug shows every rank's"},
      {"run.log_every_steps", VIXEN_FIELD(run.log_every_steps), "steps", ours, kAtLeast1, kTrain, kNoFact,
       "Steps between two lines of metrics.jsonl"},
      {"run.checkpoint_every_steps", VIXEN_FIELD(run.checkpoint_every_steps), "steps", ours, kAtLeast0, kTrain, kNoFact,
       "Steps between checkpoints; 0: at the end of every epoch only"},
      {"run.checkpoint_async", VIXEN_FIELD(run.checkpoint_async), "", ours, {}, kRunPlans, kNoFact,
       "Write checkpoints while training goes on, from a copy in host memory; false: training waits for the disk"},
      {"run.keep_last", VIXEN_FIELD(run.keep_last), "checkpoints", ours, kAtLeast1, kTrain, kNoFact,
       "Newest checkpoints kept, besides the best and those of run.keep_every_steps"},
      {"run.keep_every_steps", VIXEN_FIELD(run.keep_every_steps), "steps", ours, kAtLeast0, kTrain, kNoFact,
       "Checkpoints of multiples of so many steps are kept for good; 0: none"},
      {"run.resume", VIXEN_FIELD(run.resume), "", ours, {}, kTrain, kNoFact,
       "Go on from the newest checkpoint in run.dir"},
      {"run.query_bank", VIXEN_FIELD(run.query_bank), "", ours, {}, kTrain, kNoFact,
       "Keep the embeddings of the training queries (float16) with the model, so that [augment] does not encode them again"},
      {"run.stop_after_steps", VIXEN_FIELD(run.stop_after_steps), "steps", ours, kAtLeast0, kTrain, kNoFact,
       "Save and stop (exit code 75) after this many steps of this process; 0: never"},
      {"run.stop_before_end_seconds", VIXEN_FIELD(run.stop_before_end_seconds), "seconds", ours, kAtLeast0, kTrain, kNoFact,
       "Save and exit with code 75 so long before the SLURM job ends, should no signal come; at most a quarter of what is left of "
       "it at the start; 0: never"},
      {"run.count_messages", VIXEN_FIELD(run.count_messages), "", ours, {}, kTrain, kNoFact,
       "Write into metrics.jsonl how many messages and bytes rank 0 sends in each interval, by collective (docs/scaling.md)"},

      {"data.path", VIXEN_FIELD(data.path), "", ours, {}, kDataSets, kNoFact,
       "The prepared data set (HDF5, docs/data-format.md)", PathRole::kInput},
      {"data.split", VIXEN_FIELD(data.split), "", ours, {}, kAskers, kNoFact,
       "Queries that embed, predict and mine read"},
      {"data.images", VIXEN_FIELD(data.images), "", paper, {}, kModels, kOfModel | kDecisive,
       "Use the pictures that the data set has"},
      {"data.query_images", VIXEN_FIELD(data.query_images), "", ours, {}, kQueryEncoders, kNoFact,
       "Give queries their pictures; false: text-only answers of a model that was trained with pictures"},
      {"data.prefetch", VIXEN_FIELD(data.prefetch), "batches", ours, kAtLeast0, kModels, kNoFact,
       "Batches packed ahead of the step that reads them"},
      {"data.propensity_a", VIXEN_FIELD(data.propensity_a), "", official, kAny, kPropensities, kOfModel | kDecisive,
       "Propensity constant A; negative: what the data set says"},
      {"data.propensity_b", VIXEN_FIELD(data.propensity_b), "", official, kAny, kPropensities, kOfModel | kDecisive,
       "Propensity constant B; negative: what the data set says"},

      {"model.path", VIXEN_FIELD(model.path), "", paper, {}, kModels, kOfModel,
       "Hugging Face folder of the backbone (config.json, model.safetensors, tokenizer.json)", PathRole::kInput},
      {"model.layers", VIXEN_FIELD(model.layers), "layers", paper, kAtLeast0, kModels, kOfModel | kDecisive,
       "Use the first N layers only; 0: all"},
      {"model.compute", VIXEN_FIELD(model.compute), "", ours, {}, kModels, kOfModel | kDecisive,
       "Precision of the backbone's matrix products; weights, loss and sums are fp32 in both"},
      {"model.pooling", VIXEN_FIELD(model.pooling), "", paper, {}, kModels, kOfModel | kDecisive,
       "How positions become one embedding: their mean, the last one, or [CLS] (encoders); auto: as the folder's "
       "sentence-transformers files say, else mean"},
      {"model.dropout", VIXEN_FIELD(model.dropout), "probability", official, kDropoutOrNone, kPlanned, kOfModel | kDecisive,
       "Hidden and attention dropout; negative: what config.json says"},
      {"model.check_tokenizer", VIXEN_FIELD(model.check_tokenizer), "", ours, {}, kEncoders, kOfModel | kDecisive,
       "Refuse a data set that another tokenizer prepared"},
      {"model.mask", VIXEN_FIELD(model.mask), "", paper, {}, kModels, kOfModel | kDecisive,
       "What a position attends to; auto: causal in decoders, bidirectional in encoders"},
      {"model.fusion", VIXEN_FIELD(model.fusion), "", paper, {}, kModels, kOfModel | kDecisive,
       "Pictures as positions of the sequence, or fused behind the pooling by one cross-attention block (MUFIN)"},
      {"model.fusion_heads", VIXEN_FIELD(model.fusion_heads), "heads", ours, kAtLeast1, kModels, kOfModel | kDecisive,
       "Attention heads of late fusion's block"},
      {"model.image_adapter", VIXEN_FIELD(model.image_adapter), "", paper, {}, kModels, kOfModel | kDecisive,
       "Map from picture embeddings to the backbone's width: the paper's linear one, or linear-GELU-linear"},
      {"model.image_adapter_width", VIXEN_FIELD(model.image_adapter_width), "units", ours, kAtLeast0, kModels, kOfModel | kDecisive,
       "Hidden units of the mlp; 0: the backbone's width"},

      {"lora.rank", VIXEN_FIELD(lora.rank), "", paper, kAtLeast0, kModels, kOfModel | kDecisive,
       "Rank of the adapters beside frozen weights (paper: 256); 0: none, the whole backbone is trained"},
      {"lora.alpha", VIXEN_FIELD(lora.alpha), "", paper, kPositive, kModels, kOfModel | kDecisive,
       "Numerator of the adapters' scale"},
      {"lora.scale", VIXEN_FIELD(lora.scale), "", paper, {}, kModels, kOfModel | kDecisive,
       "alpha / sqrt(rank), or alpha / rank"},
      {"lora.dropout", VIXEN_FIELD(lora.dropout), "probability", paper, kProbability, kPlanned, kOfModel | kDecisive,
       "Dropout in front of the adapters"},
      {"lora.modules", VIXEN_FIELD(lora.modules), "", paper, {}, kModels, kOfModel | kDecisive,
       "Projections with an adapter: a list of q, k, v, o, gate, up, down (encoders have no gate)"},
      {"lora.adapter", VIXEN_FIELD(lora.adapter), "", ours, {}, kModels, kOfModel,
       "PEFT folder whose adapters training starts from, or that the model is read with; sets rank, alpha, scale and modules", PathRole::kInput},

      {"template.use", VIXEN_FIELD(prompt.use), "", paper, {}, kModels, kOfModel | kDecisive,
       "Put the prompt around text and pictures; auto: decoders yes, encoders no"},
      {"template.order", VIXEN_FIELD(prompt.order), "", paper, {}, kModels, kOfModel | kDecisive,
       "What comes first; auto: decoders text, encoders pictures"},
      {"template.text_prefix", VIXEN_FIELD(prompt.text_prefix), "", paper, {}, kModels, kOfModel | kDecisive,
       "Prompt in front of the text; empty: none"},
      {"template.image_prefix", VIXEN_FIELD(prompt.image_prefix), "", paper, {}, kModels, kOfModel | kDecisive,
       "Prompt in front of the pictures, where there are any; empty: none"},
      {"template.closing", VIXEN_FIELD(prompt.closing), "", paper, {}, kModels, kOfModel | kDecisive,
       "Prompt at the end of every sequence; empty: none"},

      {"train.method", VIXEN_FIELD(train.method), "", paper, {}, kPlanned, kDecisive,
       "Training method: with label prototypes, without, or the paper's plain triplet equation"},
      {"train.sampler", VIXEN_FIELD(train.sampler), "", paper, {}, kPlanned, kDecisive,
       "Which queries meet in a batch: neighbours, by the curriculum of [cluster], or a new shuffle every epoch"},
      {"train.epochs", VIXEN_FIELD(train.epochs), "epochs", ours, kAtLeast0, kPlanned, kDecisive,
       "Passes over the training queries (paper: 300 text, 150 with pictures, on Amazon sets)"},
      {"train.batch_size", VIXEN_FIELD(train.batch_size), "queries", ours, kAtLeast1, kPlanned, kDecisive,
       "Queries of a step, over all ranks (paper: 2048)"},
      {"train.seed", VIXEN_FIELD(train.seed), "", ours, {}, kEncoders, kDecisive,
       "Everything random is a function of it"},
      {"train.lr", VIXEN_FIELD(train.lr), "", paper, kAtLeast0, kSteps, kDecisive,
       "Peak learning rate of the backbone (MiniLM 5e-4, DistilBERT 2e-4, BERT 1e-4)"},
      {"train.prototype_lr", VIXEN_FIELD(train.prototype_lr), "", paper, kAtLeast0, kSteps, kDecisive,
       "Peak learning rate of the prototype network and the free vectors"},
      {"train.image_lr", VIXEN_FIELD(train.image_lr), "", paper, kAtLeast0, kSteps, kDecisive,
       "Peak learning rate of the image projection"},
      {"train.weight_decay", VIXEN_FIELD(train.weight_decay), "", official, kAtLeast0, kSteps, kDecisive,
       "AdamW's decay (not of biases, backbone norms and free vectors)"},
      {"train.adam_beta1", VIXEN_FIELD(train.adam_beta1), "", official, kProbability, kSteps, kDecisive,
       "Decay of AdamW's first moment"},
      {"train.adam_beta2", VIXEN_FIELD(train.adam_beta2), "", official, kProbability, kSteps, kDecisive,
       "Decay of AdamW's second moment"},
      {"train.adam_eps", VIXEN_FIELD(train.adam_eps), "", official, kPositive, kSteps, kDecisive,
       "AdamW's epsilon"},
      {"train.warmup_steps", VIXEN_FIELD(train.warmup_steps), "steps", official, kAtLeast0, kTrain, kDecisive,
       "Steps over which the learning rate rises, before it falls linearly to 0"},
      {"train.clip_norm", VIXEN_FIELD(train.clip_norm), "", official, kAtLeast0, kPlanned, kDecisive,
       "Largest norm of the whole gradient; 0: no clipping (decoders: 1)"},
      {"train.evaluate_every_epochs", VIXEN_FIELD(train.evaluate_every_epochs), "epochs", ours, kAtLeast0, kRunPlans, kNoFact,
       "Epochs between evaluations; 0: after the last only"},
      {"train.best_metric", VIXEN_FIELD(train.best_metric), "", ours, {}, kTrain, kNoFact,
       "Metric by which the best checkpoint is kept"},
      {"train.image_dropout", VIXEN_FIELD(train.image_dropout), "probability", ours, kProbability, kSteps, kDecisive,
       "Sequences of a training step that go without their pictures, so that the model also answers text alone"},
      {"train.memory_gb", VIXEN_FIELD(train.memory_gb), "1e9 bytes a rank", ours, kAtLeast0, kPlanned, kNoFact,
       "Memory budget, kept by tables in host memory, recomputing layers, gradient caching in chunks; 0: what is free on a "
       "GPU, none on a CPU"},
      {"train.chunks", VIXEN_FIELD(train.chunks), "chunks", ours, kAtLeast0, kPlanned, kNoFact,
       "Gradient caching: parts of a rank's batch that are embedded, and embedded again for their gradients, one after "
       "the other; 0: as train.memory_gb asks"},
      {"train.graph_positions", VIXEN_FIELD(train.graph_positions), "positions", ours, kAtLeast0, kPlanned, kNoFact,
       "On GPUs: an encoder's passes recorded as CUDA graphs, of batches filled up to multiples of so many positions; for "
       "small batches, whose kernels the host cannot launch fast enough; 0: none"},
      {"train.recompute_layers", VIXEN_FIELD(train.recompute_layers), "layers", ours, kAny, kPlanned, kNoFact,
       "First layers whose activations are computed again in the backward pass; negative: as train.memory_gb asks"},
      {"train.tables", VIXEN_FIELD(train.tables), "", ours, {}, kPlanned, kNoFact,
       "Where the query bank and the centroids live: on the device, in host memory, or (auto) in host memory when the "
       "budget is short"},
      {"train.objective", VIXEN_FIELD(train.objective), "", ours, {}, kPlanned, kNoFact,
       "Who evaluates the loss of a batch: every rank all of it, or each rank its rows, block by block; auto: sharded where all "
       "of it takes more than 1e9 bytes (prime: above about 7,400 queries)"},

      {"loss.negatives", VIXEN_FIELD(loss.negatives), "labels", official, kAtLeast1, kPlanned, kDecisive,
       "Hardest negatives of a row"},
      {"loss.margin_min", VIXEN_FIELD(loss.margin_min), "cosine", official, kCosineGap, kSteps, kDecisive,
       "Least margin between positive and negative"},
      {"loss.margin_max", VIXEN_FIELD(loss.margin_max), "cosine", official, kCosineGap, kSteps, kDecisive,
       "Largest margin"},
      {"loss.temperature", VIXEN_FIELD(loss.temperature), "cosine", official, kPositive, kSteps, kDecisive,
       "Temperature of the softmax that weighs negatives"},
      {"loss.soft_steps", VIXEN_FIELD(loss.soft_steps), "steps", ours, kAtLeast0, kPlanned, kDecisive,
       "Negatives go from soft to hard over so many first steps: their number from soft_negatives to negatives, the "
       "temperature from soft_temperature to temperature; 0: hard from the start"},
      {"loss.soft_negatives", VIXEN_FIELD(loss.soft_negatives), "labels", ours, kAtLeast0, kPlanned, kDecisive,
       "Negatives of a row at the first step (soft_steps); 0: all labels of the batch"},
      {"loss.soft_temperature", VIXEN_FIELD(loss.soft_temperature), "cosine", ours, kPositive, kSteps, kDecisive,
       "Temperature of their weights at the first step (soft_steps)"},
      {"loss.regulariser_weight", VIXEN_FIELD(loss.regulariser_weight), "", paper, kAtLeast0, kSteps, kDecisive,
       "Weight of the term that keeps prototypes at least as good as label embeddings"},
      {"loss.regulariser_margin", VIXEN_FIELD(loss.regulariser_margin), "cosine", official, kCosineGap, kSteps, kDecisive,
       "Margin of that term"},
      {"loss.fixed_positive", VIXEN_FIELD(loss.fixed_positive), "", official, {}, kSteps, kDecisive,
       "Take the drawn label of a row as its positive in every term, instead of an own draw for each"},
      {"loss.tie_gradient", VIXEN_FIELD(loss.tie_gradient), "", official, {}, kSteps, kDecisive,
       "Gradient of max(0, x) at x = 0, which satisfied rows sit on"},

      {"prototype.free_vectors", VIXEN_FIELD(prototype.free_vectors), "vectors", paper, kAtLeast1, kPlanned, kDecisive,
       "Trained vectors shared by clusters of labels; rounded up to a power of two, at most the largest one <= labels"},
      {"prototype.heads", VIXEN_FIELD(prototype.heads), "heads", paper, kAtLeast1, kPlanned, kDecisive,
       "Attention heads of the prototype network"},
      {"prototype.feed_forward", VIXEN_FIELD(prototype.feed_forward), "units", official, kAtLeast1, kPlanned, kDecisive,
       "Width of its feed-forward part"},
      {"prototype.dropout", VIXEN_FIELD(prototype.dropout), "probability", official, kProbability, kPlanned, kDecisive,
       "Its dropout, attention weights included"},
      {"prototype.init", VIXEN_FIELD(prototype.init), "", official, {}, kPlanned, kDecisive,
       "Free vectors at first: Xavier-uniform (encoders) or the mean of the cluster's labels (decoders)"},

      {"cluster.start_epoch", VIXEN_FIELD(cluster.start_epoch), "epoch (0-based)", official, kAtLeast0, kPlanned, kDecisive,
       "First epoch at whose end queries are clustered into batches of neighbours"},
      {"cluster.update_epochs", VIXEN_FIELD(cluster.update_epochs), "epochs", official, kAtLeast1, kRunPlans, kDecisive,
       "Epochs between clusterings"},
      {"cluster.size", VIXEN_FIELD(cluster.size), "queries", official, kAtLeast1, kRunPlans, kDecisive,
       "Queries of a cluster at first"},
      {"cluster.double_at", VIXEN_FIELD(cluster.double_at), "epochs (0-based)", official, kAtLeast0, kTrain, kDecisive,
       "Epochs at whose end the cluster size doubles"},

      {"mining.columns", VIXEN_FIELD(mining.columns), "labels", ours, kAtLeast0, kPlanned, kDecisive,
       "Mined hard negatives that join a global batch as label columns, besides the batch's own labels (docs/mining.md); 0: none"},
      {"mining.depth", VIXEN_FIELD(mining.depth), "labels", ours, kDepth, kMinersPlanned, kDecisive,
       "Labels that a query's search looks at, before relevant and dropped ones are taken out"},
      {"mining.start_epoch", VIXEN_FIELD(mining.start_epoch), "epoch (0-based)", ours, kAtLeast0, kTrain, kDecisive,
       "First epoch at whose end lists are mined: before it every query has been embedded"},
      {"mining.every_epochs", VIXEN_FIELD(mining.every_epochs), "epochs", ours, kAtLeast1, kTrain, kDecisive,
       "Epochs between minings"},
      {"mining.every_steps", VIXEN_FIELD(mining.every_steps), "steps", ours, kAtLeast0, kTrain, kDecisive,
       "Steps between minings, from the end of mining.start_epoch on; 0: mining.every_epochs counts (ANCE mines by steps)"},
      {"mining.overlap", VIXEN_FIELD(mining.overlap), "steps", ours, kAtLeast0, kPlanned, kDecisive,
       "Steps that a mining is spread over, each after a share of the queries: training goes on with the lists before, and takes up "
       "the new ones all at once; at most the steps between two minings. 0: training waits"},
      {"mining.skip_first", VIXEN_FIELD(mining.skip_first), "labels", ours, kAtLeast0, kMiners, kDecisive,
       "Best labels of a query that are passed over, relevant ones not counted: the likeliest to be unlabelled positives"},
      {"mining.relative_margin", VIXEN_FIELD(mining.relative_margin), "factor", ours, kFraction, kMiners, kDecisive,
       "Drops labels that score above this factor times the query's weakest positive (NV-Retriever: 0.95; sentence-transformers' 0.05 "
       "is 0.95 here); 0: none"},
      {"mining.absolute_margin", VIXEN_FIELD(mining.absolute_margin), "cosine", ours, kCosineGap, kMiners, kDecisive,
       "Drops labels that score above the query's weakest positive less this; 0: none"},
      {"mining.same_text", VIXEN_FIELD(mining.same_text), "", ours, {}, kMiners, kDecisive,
       "Labels with the text of the query or of one of its relevant labels"},
      {"mining.against", VIXEN_FIELD(mining.against), "", ours, {}, kMinersSteps, kDecisive,
       "What of the labels is searched: their embeddings, or their prototypes"},
      {"mining.labels", VIXEN_FIELD(mining.labels), "", ours, {}, kPlanned, kDecisive,
       "Label embeddings made anew for every mining, or those last seen in training (after the first mining)"},
      {"mining.draw", VIXEN_FIELD(mining.draw), "", ours, {}, kPlanned, kDecisive,
       "Which labels of a query's list join the batch: the hardest, any, or any by the softmax of their scores over "
       "loss.temperature"},

      {"doctor.dir", VIXEN_FIELD(doctor.dir), "", ours, {}, kDoctor, kNoFact,
       "Folder whose file system is tried: where runs are to be written; what is written there is removed again"},

      {"mine.k", VIXEN_FIELD(mine.k), "labels", ours, kAtLeast0, kMine, kNoFact,
       "Negatives written for each query, at most mining.depth; 0: all that are left of it"},
      {"mine.format", VIXEN_FIELD(mine.format), "", ours, {}, kMine, kNoFact,
       "hdf5: matrices; JSON lines as sentence-transformers' trainer reads them: triplet (anchor, positive, negative) or n-tuple (anchor, positive, negative_1 ... negative_k; queries with fewer are left out)"},
      {"mine.positives", VIXEN_FIELD(mine.positives), "", ours, {}, kMine, kNoFact,
       "JSON lines: of each relevant label of a query, or of its first alone"},
      {"mine.corpus", VIXEN_FIELD(mine.corpus), "", ours, {}, kMine, kNoFact,
       "Another data set whose labels are searched instead (DATA.h5, of the same tokenizer and max_length); empty: those of data.path", PathRole::kInput},
      {"mine.part_queries", VIXEN_FIELD(mine.part_queries), "queries", ours, kAtLeast1, kMine, kNoFact,
       "Queries of a part, rounded up to blocks of 512: parts lie beside the output, and a killed command goes on behind the last"},

      {"search.corpus", VIXEN_FIELD(search.corpus), "", ours, {}, kSearch, kNoFact,
       "Rows to search in: FILE.h5[:/dataset], default dataset /embeddings", PathRole::kInput},
      {"search.queries", VIXEN_FIELD(search.queries), "", ours, {}, kSearch, kNoFact,
       "Rows to search for: FILE.h5[:/dataset]", PathRole::kInput},
      {"search.k", VIXEN_FIELD(search.k), "rows", ours, kAtLeast1, kSearchWidths, kNoFact,
       "Best rows kept for each query"},
      {"search.method", VIXEN_FIELD(search.method), "", ours, {}, kSearchPlans, kNoFact,
       search_method_help()},
      {"search.prefilter", VIXEN_FIELD(search.prefilter), "", ours, {}, kSearchers, kNoFact,
       prefilter_help()},
      {"search.block_queries", VIXEN_FIELD(search.block_queries), "rows", ours, kAtLeast1, kSearchPlans, kNoFact,
       "Queries of a block of scores"},
      {"search.block_labels", VIXEN_FIELD(search.block_labels), "rows", ours, kAtLeast1, kSearchPlans, kNoFact,
       "Labels of a block of scores"},
      {"search.nlist", VIXEN_FIELD(search.nlist), "lists", ours, kAtLeast0, kSearchPlans, kNoFact,
       "faiss_ivf_pq: lists that k-means deals a rank's labels to, at most one for 39 of them; 0: 4 times their square root"},
      {"search.nprobe", VIXEN_FIELD(search.nprobe), "lists", ours, kAtLeast0, kSearchers, kNoFact,
       "faiss_ivf_pq: nearest lists that are read for a query; 0: twice the square root of their number, at least 16"},
      {"search.pq_bytes", VIXEN_FIELD(search.pq_bytes), "bytes", ours, kAtLeast0, kSearchPlans, kNoFact,
       "faiss_ivf_pq: length of a label's code, at most the width; 0: a quarter of the width"},
      {"search.pq_refine", VIXEN_FIELD(search.pq_refine), "candidates a place", ours, kAtLeast0, kSearchPlans, kNoFact,
       "faiss_ivf_pq: the best candidates by their codes that are scored by their rows, times k; 0: none, rows are not kept "
       "and scores are those of the codes"},
      {"search.hnsw_links", VIXEN_FIELD(search.hnsw_links), "links", ours, kLinks, kSearchPlans, kNoFact,
       "faiss_hnsw: links of a label in the graph's upper layers; twice as many in the lowest"},
      {"search.hnsw_ef_build", VIXEN_FIELD(search.hnsw_ef_build), "labels", ours, kAtLeast1, kSearchers, kNoFact,
       "faiss_hnsw: candidates kept while a label is linked"},
      {"search.hnsw_ef", VIXEN_FIELD(search.hnsw_ef), "labels", ours, kAtLeast0, kSearchers, kNoFact,
       "faiss_hnsw: candidates kept while a query is answered, at least k; 0: twice k, at least 64"},
      {"search.cosine", VIXEN_FIELD(search.cosine), "", paper, {}, kSearch, kNoFact,
       "Normalise rows first"},
      {"search.rows", VIXEN_FIELD(search.rows), "", ours, {}, kSearch, kNoFact,
       "Where a GPU's share of search.corpus lies: on the device, or in pinned host memory, from where the exact search reads it part by part; auto: on the device where it fits"},

      {"augment.lambda", VIXEN_FIELD(augment.lambda), "", paper, kFraction, kAnswerers, kNoFact,
       "Retrieval-augmented inference: weight of the labels of a query's nearest training queries against the labels' own "
       "(paper: 0.1); 0: none"},
      {"augment.labels", VIXEN_FIELD(augment.labels), "labels", paper, kAtLeast1, kAnswerers, kNoFact,
       "Best labels of a query that take part (paper: 100)"},
      {"augment.queries", VIXEN_FIELD(augment.queries), "queries", paper, kAtLeast1, kAnswerers, kNoFact,
       "Nearest training queries that take part (paper: 100)"},
      {"augment.temperature", VIXEN_FIELD(augment.temperature), "cosine", paper, kPositive, kAnswerers, kNoFact,
       "Temperature of the softmax over both lists"},
      {"augment.prior", VIXEN_FIELD(augment.prior), "", ours, kAny, kAnswerers, kNoFact,
       "Weight of the logarithm of a label's training frequency, added to its score over the temperature; 0: none"},

      {"evaluate.predictions", VIXEN_FIELD(evaluate.predictions), "", ours, {}, kEvaluate, kNoFact,
       "FILE.h5 with /indices and /scores, instead of a run", PathRole::kInput},
      {"evaluate.filter", VIXEN_FIELD(evaluate.filter), "", ours, {}, kMetrics, kNoFact,
       "Drop filtered pairs before the cut at k, or after it as the authors' code does"},
      {"evaluate.k", VIXEN_FIELD(evaluate.k), "labels", ours, kAtLeast1, kRankings, kNoFact,
       "Longest ranking that metrics look at"},

      {"predict.k", VIXEN_FIELD(predict.k), "labels", ours, kAtLeast1, kPredict, kNoFact,
       "Labels predicted for each query"},
      {"predict.text", VIXEN_FIELD(predict.text), "", ours, {}, kPredict, kNoFact,
       "Write TSV with label names instead of HDF5 (short: --text)"},

      {"embed.side", VIXEN_FIELD(embed.side), "", ours, {}, kEmbed, kNoFact,
       "What to encode"},
      {"embed.dtype", VIXEN_FIELD(embed.dtype), "", ours, {}, kEmbed, kNoFact,
       "Precision of the file"},
      {"embed.prototypes", VIXEN_FIELD(embed.prototypes), "", paper, {}, kEmbed, kNoFact,
       "Labels: write prototypes instead of plain embeddings"},

      {"export.format", VIXEN_FIELD(export_.format), "", ours, {}, kExport, kNoFact,
       "Adapters as a PEFT folder, merged weights as a Hugging Face folder, the same with pooling and template for "
       "sentence-transformers, or the labels as a FAISS index"},
      {"export.dtype", VIXEN_FIELD(export_.dtype), "", ours, {}, kExport, kNoFact,
       "Precision of merged weights"},
      {"export.max_shard_mb", VIXEN_FIELD(export_.max_shard_mb), "1e6 bytes", ours, kAtLeast1, kExport, kNoFact,
       "Merged weights go to files of at most this size"},

      {"plan.gpu", VIXEN_FIELD(plan.gpu), "", ours, {}, kPlan, kNoFact,
       "Device to plan for: its memory and rates"},
      {"plan.rates", VIXEN_FIELD(plan.rates), "", ours, {}, kPlan, kNoFact,
       "Rates and memory of a device as `vixen bench --out FILE` measured them, in the place of the data sheet's", PathRole::kInput},
      {"plan.world_size", VIXEN_FIELD(plan.world_size), "ranks", ours, kAtLeast1, kPlan, kNoFact,
       "Ranks to plan for, one a GPU"},
      {"plan.node_ranks", VIXEN_FIELD(plan.node_ranks), "ranks", ours, kAtLeast1, kPlan, kNoFact,
       "Ranks of a node, which keep some tables once"},
      {"plan.memory_gb", VIXEN_FIELD(plan.memory_gb), "1e9 bytes", ours, kAtLeast0, kPlan, kNoFact,
       "Memory of a rank; 0: train.memory_gb, else the device's"},
      {"plan.tflops", VIXEN_FIELD(plan.tflops), "1e12 FLOP/s", ours, kAtLeast0, kPlan, kNoFact,
       "Rate that matrix products reach; 0: of the device"},
      {"plan.bandwidth_gbs", VIXEN_FIELD(plan.bandwidth_gbs), "1e9 bytes/s", ours, kAtLeast0, kPlan, kNoFact,
       "Bus bandwidth of an all-reduce within a node; 0: of the device"},
      {"plan.nodes", VIXEN_FIELD(plan.nodes), "nodes", ours, kAtLeast0, kPlan, kNoFact,
       "Plan for so many nodes of plan.node_ranks ranks, with the timeline of a step over their links; 0: plan.world_size ranks"},
      {"plan.fabric", VIXEN_FIELD(plan.fabric), "", ours, {}, kPlan, kNoFact,
       "Links within and between nodes, for plan.nodes (docs/scaling.md)"},
      {"plan.node_us", VIXEN_FIELD(plan.node_us), "1e-6 s", ours, kAtLeast0, kPlan, kNoFact,
       "Latency of a message within a node; 0: of the fabric"},
      {"plan.network_gbs", VIXEN_FIELD(plan.network_gbs), "1e9 bytes/s", ours, kAtLeast0, kPlan, kNoFact,
       "What a node sends to others, all its adapters together; 0: of the fabric"},
      {"plan.network_us", VIXEN_FIELD(plan.network_us), "1e-6 s", ours, kAtLeast0, kPlan, kNoFact,
       "Latency of a message between nodes; 0: of the fabric"},
      {"plan.queries", VIXEN_FIELD(plan.queries), "queries", ours, kAtLeast0, kPlan, kNoFact,
       "Training queries; 0: of the data set"},
      {"plan.labels", VIXEN_FIELD(plan.labels), "labels", ours, kAtLeast0, kPlan, kNoFact,
       "Labels; 0: of the data set"},
      {"plan.labels_per_query", VIXEN_FIELD(plan.labels_per_query), "labels", ours, kPositive, kPlan, kNoFact,
       "Mean number of relevant labels of a training query, where no data set says"},
      {"plan.mean_tokens", VIXEN_FIELD(plan.mean_tokens), "tokens", ours, kAtLeast0, kPlan, kNoFact,
       "Mean length of a text; 0: of the data set"},
      {"plan.longest_tokens", VIXEN_FIELD(plan.longest_tokens), "tokens", ours, kAtLeast0, kPlan, kNoFact,
       "Longest text; 0: of the data set"},
      {"plan.images_per_row", VIXEN_FIELD(plan.images_per_row), "pictures", ours, kAtLeast0, kPlan, kNoFact,
       "Mean number of pictures of a query or label"},
      {"plan.image_slots", VIXEN_FIELD(plan.image_slots), "pictures", ours, kAtLeast0, kPlan, kNoFact,
       "Most pictures of a row"},
      {"plan.image_width", VIXEN_FIELD(plan.image_width), "", ours, kAtLeast0, kPlan, kNoFact,
       "Width of a picture embedding"},
      {"plan.prompt_tokens", VIXEN_FIELD(plan.prompt_tokens), "tokens", ours, kAtLeast0, kPlan, kNoFact,
       "Tokens of the whole prompt, where no data set says"},

      {"comm.deadline_seconds", VIXEN_FIELD(comm.deadline_seconds), "seconds", ours, kPositive, kJobs, kNoFact,
       "A collective without progress for this long ends the job, as does a rank that shows no sign of life"},
      {"comm.file_deadline_seconds", VIXEN_FIELD(comm.file_deadline_seconds), "seconds", ours, kPositive, kJobs, kNoFact,
       "The same for a collective while some rank waits for a file system"},
      {"comm.gradients", VIXEN_FIELD(comm.gradients), "", ours, {}, kPlanned, kDecisive,
       "How gradients travel between ranks. bf16: half the bytes; what rounding takes away is kept and sent with the next "
       "step's (not with one rank)"},
      {"comm.bucket_mb", VIXEN_FIELD(comm.bucket_mb), "1e6 bytes", ours, kAtLeast0, kPlanned, kNoFact,
       "Gradients set out for the other ranks when so many have come together, while the backward pass goes on; 0: layer by "
       "layer"},

      {"kernels.attention", VIXEN_FIELD(kernels.attention), "", ours, {}, kEncoders, kNoFact,
       "Attention. auto: fused where the device has it; fused: an error where it has not; reference: plain ATen"},
      {"kernels.norm", VIXEN_FIELD(kernels.norm), "", ours, {}, kEncoders, kNoFact,
       "Layer, RMS and head norm: as kernels.attention"},
      {"kernels.dropout", VIXEN_FIELD(kernels.dropout), "", ours, {}, kSteps, kNoFact,
       "Dropout outside of norms and attention: as kernels.attention"},
      {"kernels.rope", VIXEN_FIELD(kernels.rope), "", ours, {}, kEncoders, kNoFact,
       "Rotary positions: as kernels.attention"},
      {"kernels.activation", VIXEN_FIELD(kernels.activation), "", ours, {}, kEncoders, kNoFact,
       "GELU, SwiGLU and bias gradients: as kernels.attention"},
      {"kernels.embedding", VIXEN_FIELD(kernels.embedding), "", ours, {}, kEncoders, kNoFact,
       "Input embeddings: as kernels.attention"},
      {"kernels.pooling", VIXEN_FIELD(kernels.pooling), "", ours, {}, kEncoders, kNoFact,
       "Mean pooling: as kernels.attention"},
      {"kernels.adamw", VIXEN_FIELD(kernels.adamw), "", ours, {}, kSteps, kNoFact,
       "The optimiser's update: as kernels.attention"},
      {"kernels.search", VIXEN_FIELD(kernels.search), "", ours, {}, kSearchers, kNoFact,
       "Filter and scores of the exact search on GPUs: as kernels.attention; CPUs have a search of their own"},
      {"kernels.clusters", VIXEN_FIELD(kernels.clusters), "", ours, {}, kSteps, kNoFact,
       "Balanced 2-means on GPUs: as kernels.attention; CPUs have loops of their own"},
      {"kernels.objective", VIXEN_FIELD(kernels.objective), "", ours, {}, kSteps, kNoFact,
       "Hardest negatives and losses of rows on GPUs: as kernels.attention; CPUs run the reference"},

      {"compat.padded_positions", VIXEN_FIELD(compat.padded_positions), "", official, {}, kModels, kOfModel | kDecisive,
       "Number positions as the authors' code does, where a missing picture takes one"},
  };
}

// clang-format on
#undef VIXEN_FIELD

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

bool Key::read_by(std::string_view command) const {
  return std::find(readers.begin(), readers.end(), command) != readers.end();
}

const std::vector<RetiredKey>& retired_keys() {
  static const std::vector<RetiredKey> keys = {
      {"embed.chunk_rows", "nothing ever read it"},
      {"mine.jsonl", "mine.format says what --out is"},
  };
  return keys;
}

const std::vector<Key>& all_keys() {
  static const std::vector<Key> keys = make_keys();
  return keys;
}

}  // namespace vixen

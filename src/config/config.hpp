// Every setting of the program: one struct a section, with its default. Keys are `section.member` (device is alone).
// What each key means, its unit and its source is in config/keys.cpp, where --help takes it from.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace vixen {

enum class Method { kPrime, kNgame, kTriplet };         // train.method
enum class TieGradient { kHalf, kZero };                // loss.tie_gradient
enum class Compute { kFloat32, kBfloat16 };             // model.compute: "fp32" | "bf16"
enum class KernelChoice { kAuto, kReference, kFused };  // kernels.*
enum class FilterMode { kBeforeCut, kOfficial };        // evaluate.filter: "before" | "official"
enum class FreeVectorInit { kXavier, kClusterMean };    // prototype.init: "xavier" | "mean"
enum class Pooling { kMean, kLastToken };               // model.pooling: "mean" | "last"

struct RunConfig {
  std::string dir;  // where a run writes
  std::string log_level = "info";
  int64_t log_every_steps = 10;        // metrics.jsonl interval
  int64_t checkpoint_every_steps = 0;  // 0: at the end of every epoch only
  int64_t keep_last = 2;               // checkpoints kept, besides the best
  bool resume = true;                  // go on from the newest checkpoint in dir
  int64_t stop_after_steps = 0;        // save and stop (exit 75) after this many steps of this process; 0: never
};

struct DataConfig {
  std::string path;            // DATA.h5
  std::string split = "test";  // train | test: which queries embed, evaluate and predict read
  bool images = true;          // false: ignore the pictures that the data set has
  int64_t prefetch = 2;        // batches packed ahead
  double propensity_a = -1;    // < 0: what the data set says
  double propensity_b = -1;
};

struct ModelConfig {
  std::string path;    // Hugging Face folder
  int64_t layers = 0;  // first N layers; 0: all
  Compute compute = Compute::kFloat32;
  Pooling pooling = Pooling::kMean;
  double dropout = -1;          // hidden and attention dropout; < 0: what config.json says
  bool check_tokenizer = true;  // the data set must have been tokenised with this model's tokenizer
};

struct TrainConfig {
  Method method = Method::kPrime;
  int64_t epochs = 6;
  int64_t batch_size = 512;  // global, over all ranks
  uint64_t seed = 0;
  double lr = 5e-4;
  double prototype_lr = 5e-4;
  double image_lr = 5e-4;
  double weight_decay = 0.01;
  double adam_beta1 = 0.9;
  double adam_beta2 = 0.999;
  double adam_eps = 1e-6;
  int64_t warmup_steps = 100;
  double clip_norm = 0;               // 0: no clipping
  int64_t evaluate_every_epochs = 0;  // 0: after the last epoch only
  std::string best_metric = "P@1";
};

struct LossConfig {
  int64_t negatives = 10;
  double margin_min = 0.1;
  double margin_max = 0.3;
  double temperature = 0.1;
  double regulariser_weight = 0.1;
  double regulariser_margin = 0.1;
  bool fixed_positive = false;
  TieGradient tie_gradient = TieGradient::kHalf;
};

struct PrototypeConfig {
  int64_t free_vectors = 65536;  // C; rounded up to a power of two, at most the largest one <= L
  int64_t heads = 8;
  int64_t feed_forward = 1024;
  double dropout = 0.1;
  FreeVectorInit init = FreeVectorInit::kXavier;
};

struct ClusterConfig {
  int64_t start_epoch = 10;  // first epoch (0-based) at whose end queries are clustered
  int64_t update_epochs = 5;
  int64_t size = 16;  // queries per cluster at first
  std::vector<int64_t> double_at = {20, 40, 60, 80, 100, 120};
};

struct SearchConfig {
  std::string corpus;  // FILE.h5[:/dataset]
  std::string queries;
  int64_t k = 100;
  std::string method = "exact";    // exact | faiss_flat
  std::string prefilter = "auto";  // auto | fp32 | bf16: precision of the candidate GEMM; answers are the same
  int64_t block_queries = 1024;
  int64_t block_labels = 8192;
  bool cosine = true;  // normalise rows first
};

struct EvaluateConfig {
  std::string predictions;  // FILE.h5 with /indices and /scores
  FilterMode filter = FilterMode::kBeforeCut;
  int64_t k = 100;
};

struct PredictConfig {
  int64_t k = 5;
  bool text = false;  // TSV with label names
};

struct EmbedConfig {
  std::string side = "queries";  // queries | labels
  std::string dtype = "fp16";    // fp16 | fp32
  bool prototypes = false;       // labels only: n(z) instead of n(u)
  int64_t chunk_rows = 512;      // rows of a forward pass
};

struct CommConfig {
  double deadline_seconds = 60;  // a collective without progress for this long ends the job
};

struct KernelsConfig {
  KernelChoice attention = KernelChoice::kAuto;
  KernelChoice norm = KernelChoice::kAuto;
  KernelChoice adamw = KernelChoice::kAuto;
};

struct CompatConfig {
  bool padded_positions = false;  // number positions as the authors' code does
};

struct Config {
  std::string command;
  std::string device = "cpu";  // cpu | cuda
  int64_t threads = 0;         // per rank; 0: the cores of the node over its ranks
  std::string out;             // --out
  RunConfig run;
  DataConfig data;
  ModelConfig model;
  TrainConfig train;
  LossConfig loss;
  PrototypeConfig prototype;
  ClusterConfig cluster;
  SearchConfig search;
  EvaluateConfig evaluate;
  PredictConfig predict;
  EmbedConfig embed;
  CommConfig comm;
  KernelsConfig kernels;
  CompatConfig compat;
};

}  // namespace vixen

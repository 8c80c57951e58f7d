// Every setting of the program: one struct a section, with its default. Keys are `section.member` (device is alone).
// What each key means, its unit and its source is in config/keys.cpp, where --help takes it from.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "config/enums.hpp"

namespace vixen {

struct RunConfig {
  std::string dir;  // where a run writes
  LogLevel log_level = LogLevel::kInfo;
  int64_t log_every_steps = 10;          // metrics.jsonl interval
  int64_t checkpoint_every_steps = 0;    // 0: at the end of every epoch only
  bool checkpoint_async = true;          // written while training goes on, from a snapshot in host memory
  int64_t keep_last = 2;                 // checkpoints kept, besides the best
  int64_t keep_every_steps = 0;          // and those of multiples of so many steps; 0: none
  bool resume = true;                    // go on from the newest checkpoint in dir
  bool query_bank = true;                // keep the embeddings of the training queries with the model
  int64_t stop_after_steps = 0;          // save and stop (exit 75) after this many steps of this process; 0: never
  double stop_before_end_seconds = 120;  // of the SLURM job
  bool count_messages = false;           // what rank 0 sends, by collective, into metrics.jsonl
};

struct DataConfig {
  std::string path;            // DATA.h5
  Split split = Split::kTest;  // which queries embed, predict and mine read
  bool images = true;          // false: ignore the pictures that the data set has
  bool query_images = true;    // false: queries without their pictures, of a model trained with them
  int64_t prefetch = 2;        // batches packed ahead
  double propensity_a = -1;    // < 0: what the data set says
  double propensity_b = -1;
};

struct ModelConfig {
  std::string path;    // Hugging Face folder
  int64_t layers = 0;  // first N layers; 0: all
  Compute compute = Compute::kFloat32;
  Pooling pooling = Pooling::kAuto;  // auto: what the folder says, else mean
  double dropout = -1;               // hidden and attention dropout; < 0: what config.json says
  bool check_tokenizer = true;       // the data set must have been tokenised with this model's tokenizer
  Mask mask = Mask::kAuto;           // what a position sees; auto: causal in decoders, bidirectional in encoders
  Fusion fusion = Fusion::kEarly;
  int64_t fusion_heads = 8;  // late fusion: heads of the cross-attention block
  ImageAdapterKind image_adapter = ImageAdapterKind::kLinear;
  int64_t image_adapter_width = 0;  // hidden units of the mlp; 0: the backbone's width
};

/// Low-rank adapters (LoRA, rsLoRA) beside frozen weights. rank 0: none, the whole backbone is trained.
struct LoraConfig {
  int64_t rank = 0;
  double alpha = 256;
  LoraScale scale = LoraScale::kRankStabilised;
  double dropout = 0;
  std::string modules = "q,k,v,o,gate,up,down";  // q,k,v,o: attention; gate,up,down: feed-forward (encoders: up, down)
  std::string adapter;                           // PEFT folder to start from, or to read the model with
};

/// The prompt around text and pictures. Strings are looked up among the data set's prompts, which are stored tokenised.
struct TemplateConfig {
  UseTemplate use = UseTemplate::kAuto;  // auto: decoders yes, encoders no
  PieceOrder order = PieceOrder::kAuto;  // auto: decoders text first, encoders images first
  std::string text_prefix = "This product text";
  std::string image_prefix = "and its image";
  std::string closing = "<|endoftext|>";
};

struct TrainConfig {
  Method method = Method::kPrime;
  SamplerKind sampler = SamplerKind::kClustered;
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
  double image_dropout = 0;             // probability that a sequence of a training step goes without its pictures
  double memory_gb = 0;                 // device memory a rank may use, 1e9 bytes; 0: no budget, everything is kept
  int64_t graph_positions = 0;          // on GPUs passes are recorded, of batches in multiples of so many; 0: none
  int64_t chunks = 0;                   // gradient caching: parts of a rank's batch; 0: what memory_gb asks for, else 1
  int64_t recompute_layers = -1;        // layers whose activations are recomputed; < 0: what memory_gb asks for, else 0
  TableHome tables = TableHome::kAuto;  // where query bank and centroids live; auto: what memory_gb asks for
  ObjectiveWay objective = ObjectiveWay::kAuto;  // who evaluates which rows of the loss; auto: by its size
};

struct LossConfig {
  int64_t negatives = 10;
  double margin_min = 0.1;
  double margin_max = 0.3;
  double temperature = 0.1;
  int64_t soft_steps = 0;      // from soft to hard negatives over so many first steps; 0: hard from the start
  int64_t soft_negatives = 0;  // at the first step; 0: all label columns of the batch
  double soft_temperature = 1;
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

/// Hard negatives found by searching all labels, beside those of the batch.
struct MiningConfig {
  int64_t columns = 0;      // extra label columns of a global batch; 0: no mining
  int64_t depth = 100;      // labels searched for each query
  int64_t start_epoch = 0;  // first epoch (0-based) at whose end lists are made
  int64_t every_epochs = 1;
  int64_t every_steps = 0;  // > 0: instead of every_epochs
  int64_t overlap = 0;      // steps that a pass is spread over; 0: training waits for it
  int64_t skip_first = 0;
  double relative_margin = 0;  // factor of the weakest positive's score; 0: none
  double absolute_margin = 0;  // below the weakest positive's score; 0: none
  SameText same_text = SameText::kDrop;
  MiningAgainst against = MiningAgainst::kLabels;
  MiningLabels labels = MiningLabels::kFresh;
  MiningDraw draw = MiningDraw::kHardest;
};

/// What `vixen mine` writes of the lists that [mining] describes.
struct MineConfig {
  int64_t k = 10;  // negatives of a query; 0: all that are left of mining.depth
  MineFormat format = MineFormat::kHdf5;
  MinePositives positives = MinePositives::kAll;  // of JSON lines: each relevant label of a query, or its first
  std::string corpus;                             // another data set whose labels are searched
  int64_t part_queries = 65536;                   // queries between two files that a killed command goes on from
};

/// How labels are indexed and searched: the keys of search.* that evaluate, predict and train read too.
struct IndexConfig {
  SearchMethod method = SearchMethod::kExact;
  Prefilter prefilter = Prefilter::kAuto;  // how candidates are found; answers are the same
  int64_t block_queries = 1024;
  int64_t block_labels = 8192;
  int64_t nlist = 0;           // IVF-PQ: lists of a rank; 0: by its rows
  int64_t nprobe = 0;          // IVF-PQ: lists read for a query; 0: by nlist
  int64_t pq_bytes = 0;        // IVF-PQ: bytes of a row's code; 0: by the width
  int64_t pq_refine = 4;       // IVF-PQ: candidates a place that are rescored; 0: none
  int64_t hnsw_links = 32;     // HNSW: links of a row in the upper layers, twice as many in the lowest
  int64_t hnsw_ef_build = 80;  // HNSW: candidates kept while a row is linked
  int64_t hnsw_ef = 0;         // HNSW: candidates kept while searching; 0: by k
};

struct SearchConfig : IndexConfig {
  std::string corpus;  // FILE.h5[:/dataset]
  std::string queries;
  int64_t k = 100;
  bool cosine = true;                 // normalise rows first
  TableHome rows = TableHome::kAuto;  // where a GPU's corpus lies; auto: on the device where it fits
};

/// Retrieval-augmented inference, and the label prior beside it.
struct AugmentConfig {
  double lambda = 0;          // weight of the nearest training queries' labels; 0: none
  int64_t labels = 500;       // labels of a query that are looked at
  int64_t queries = 50;       // training queries of a query that are looked at
  double temperature = 0.05;  // of the softmax over both
  double prior = 0;           // weight of a label's log training frequency; 0: none
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
  EmbedSide side = EmbedSide::kQueries;
  EmbedType dtype = EmbedType::kFloat16;
  bool prototypes = false;  // labels only: n(z) instead of n(u)
};

struct ExportConfig {
  ExportFormat format = ExportFormat::kPeft;
  ExportType dtype = ExportType::kFloat32;  // precision of merged weights
  int64_t max_shard_mb = 5000;              // merged weights in files of at most this many 1e6 bytes
};

struct DoctorConfig {
  std::string dir;  // whose file system is tried; empty: the current folder
};

/// What `vixen plan` plans with where no data set is at hand.
struct PlanConfig {
  PlannedDevice gpu = PlannedDevice::kH100;   // memory and rates of a device
  std::string rates;                          // file of `vixen bench --out`; empty: of the device's data sheet
  int64_t world_size = 1;                     // GPUs
  int64_t node_ranks = 8;                     // of a node
  double memory_gb = 0;                       // budget of a GPU; 0: train.memory_gb, else the device's
  double tflops = 0;                          // attainable rate of a GPU, 1e12 FLOP/s; 0: of the device
  double bandwidth_gbs = 0;                   // all-reduce bus bandwidth, 1e9 bytes/s; 0: of the device
  int64_t nodes = 0;                          // of node_ranks GPUs each; 0: no model of links between nodes
  Fabric fabric = Fabric::kNvlinkInfiniband;  // links within and between nodes
  double node_us = 0;                         // latency of a message within a node, 1e-6 s; 0: of the fabric
  double network_gbs = 0;  // of a node, each direction, all adapters together, 1e9 bytes/s; 0: of the fabric
  double network_us = 0;   // latency of a message between nodes, 1e-6 s; 0: of the fabric
  int64_t queries = 0;     // training queries; 0: of data.path
  int64_t labels = 0;
  double labels_per_query = 10;  // mean, where no data set says
  double mean_tokens = 0;        // of a text, special tokens included
  int64_t longest_tokens = 0;
  double images_per_row = 0;  // mean over queries and labels
  int64_t image_slots = 0;    // most pictures of a row
  int64_t image_width = 0;
  double prompt_tokens = 10;  // of all prompt pieces together, where no data set says
};

struct CommConfig {
  double deadline_seconds = 60;                  // a collective without progress for this long terminates the job
  double file_deadline_seconds = 600;            // the same while some rank waits for a file
  GradientSums gradients = GradientSums::kFp32;  // as they travel
  double bucket_mb = 25;                         // of 1e6 bytes: gradients that set out together
};

struct KernelsConfig {
  KernelChoice attention = KernelChoice::kAuto;
  KernelChoice norm = KernelChoice::kAuto;
  KernelChoice dropout = KernelChoice::kAuto;
  KernelChoice rope = KernelChoice::kAuto;
  KernelChoice activation = KernelChoice::kAuto;
  KernelChoice embedding = KernelChoice::kAuto;
  KernelChoice pooling = KernelChoice::kAuto;
  KernelChoice adamw = KernelChoice::kAuto;
  KernelChoice search = KernelChoice::kAuto;
  KernelChoice clusters = KernelChoice::kAuto;
  KernelChoice objective = KernelChoice::kAuto;
};

struct CompatConfig {
  bool padded_positions = false;  // number positions as the authors' code does
};

struct Config {
  std::string command;
  std::vector<std::string> files;  // the --config files that were read
  DeviceKind device = DeviceKind::kCpu;
  int64_t threads = 0;  // per rank; 0: the cores of the node over its ranks
  std::string out;      // --out
  RunConfig run;
  DataConfig data;
  ModelConfig model;
  LoraConfig lora;
  TemplateConfig prompt;  // section "template", which C++ keeps for itself
  TrainConfig train;
  LossConfig loss;
  PrototypeConfig prototype;
  ClusterConfig cluster;
  MiningConfig mining;
  MineConfig mine;
  SearchConfig search;
  AugmentConfig augment;
  EvaluateConfig evaluate;
  PredictConfig predict;
  EmbedConfig embed;
  ExportConfig export_;  // section "export"
  PlanConfig plan;
  DoctorConfig doctor;
  CommConfig comm;
  KernelsConfig kernels;
  CompatConfig compat;
};

}  // namespace vixen

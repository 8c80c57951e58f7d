// Settings with a few values: each enum with the names of its values in files, options and messages.
#pragma once

#include <array>
#include <cstddef>

#include "base/device_kind.hpp"
#include "base/log_level.hpp"

namespace vixen {

/// The names of an enum's values, in their order; specialised for every enum that a key has.
template <typename E>
inline constexpr std::array<const char*, 0> kWords{};

/// The name of a value.
template <typename E>
requires(!kWords<E>.empty()) constexpr const char* name_of(E value) {
  return kWords<E>.at(static_cast<size_t>(value));
}

template <>
inline constexpr std::array kWords<DeviceKind> = {"cpu", "cuda"};  // device

template <>
inline constexpr std::array kWords<LogLevel> = {"debug", "info", "warning", "error"};  // run.log_level

enum class Split { kTrain, kTest };  // data.split
template <>
inline constexpr std::array kWords<Split> = {"train", "test"};

enum class Compute { kFloat32, kBfloat16 };  // model.compute
template <>
inline constexpr std::array kWords<Compute> = {"fp32", "bf16"};

enum class Pooling { kAuto, kMean, kLastToken, kCls };  // model.pooling
template <>
inline constexpr std::array kWords<Pooling> = {"auto", "mean", "last", "cls"};

enum class Mask { kAuto, kCausal, kBidirectional };  // model.mask
template <>
inline constexpr std::array kWords<Mask> = {"auto", "causal", "bidirectional"};

enum class Fusion { kEarly, kLate };  // model.fusion
template <>
inline constexpr std::array kWords<Fusion> = {"early", "late"};

enum class ImageAdapterKind { kLinear, kMlp };  // model.image_adapter
template <>
inline constexpr std::array kWords<ImageAdapterKind> = {"linear", "mlp"};

enum class LoraScale { kRankStabilised, kClassic };  // lora.scale: alpha / sqrt(r) | alpha / r
template <>
inline constexpr std::array kWords<LoraScale> = {"rslora", "classic"};

enum class UseTemplate { kAuto, kYes, kNo };  // template.use
template <>
inline constexpr std::array kWords<UseTemplate> = {"auto", "yes", "no"};

enum class PieceOrder { kAuto, kTextFirst, kImagesFirst };  // template.order
template <>
inline constexpr std::array kWords<PieceOrder> = {"auto", "text_first", "images_first"};

enum class Method {  // train.method
#define VIXEN_OBJECTIVE(enumerator, name) enumerator,
#include "config/objectives.inl"
#undef VIXEN_OBJECTIVE
};
template <>
inline constexpr std::array kWords<Method> = {
#define VIXEN_OBJECTIVE(enumerator, name) #name,
#include "config/objectives.inl"
#undef VIXEN_OBJECTIVE
};

enum class SamplerKind {  // train.sampler
#define VIXEN_SAMPLER(enumerator, name) enumerator,
#include "config/samplers.inl"
#undef VIXEN_SAMPLER
};
template <>
inline constexpr std::array kWords<SamplerKind> = {
#define VIXEN_SAMPLER(enumerator, name) #name,
#include "config/samplers.inl"
#undef VIXEN_SAMPLER
};

enum class SameText { kDrop, kKeep };  // mining.same_text
template <>
inline constexpr std::array kWords<SameText> = {"drop", "keep"};

enum class MiningAgainst { kLabels, kPrototypes };  // mining.against
template <>
inline constexpr std::array kWords<MiningAgainst> = {"labels", "prototypes"};

enum class MiningLabels { kFresh, kBank };  // mining.labels
template <>
inline constexpr std::array kWords<MiningLabels> = {"fresh", "bank"};

enum class MiningDraw { kHardest, kUniform, kScore };  // mining.draw
template <>
inline constexpr std::array kWords<MiningDraw> = {"hardest", "uniform", "score"};

enum class MineFormat { kHdf5, kTriplet, kTuple };  // mine.format
template <>
inline constexpr std::array kWords<MineFormat> = {"hdf5", "triplet", "n-tuple"};

enum class MinePositives { kAll, kFirst };  // mine.positives
template <>
inline constexpr std::array kWords<MinePositives> = {"all", "first"};

enum class TableHome { kAuto, kDevice, kHost };  // train.tables
template <>
inline constexpr std::array kWords<TableHome> = {"auto", "device", "host"};

enum class ObjectiveWay { kAuto, kReplicated, kSharded };  // train.objective
template <>
inline constexpr std::array kWords<ObjectiveWay> = {"auto", "replicated", "sharded"};

enum class GradientSums { kFp32, kBf16 };  // comm.gradients
template <>
inline constexpr std::array kWords<GradientSums> = {"fp32", "bf16"};

enum class TieGradient { kHalf, kZero };  // loss.tie_gradient
template <>
inline constexpr std::array kWords<TieGradient> = {"half", "zero"};

enum class FreeVectorInit { kXavier, kClusterMean };  // prototype.init
template <>
inline constexpr std::array kWords<FreeVectorInit> = {"xavier", "mean"};

enum class FilterMode { kBeforeCut, kOfficial };  // evaluate.filter
template <>
inline constexpr std::array kWords<FilterMode> = {"before", "official"};

enum class SearchMethod {  // search.method
#define VIXEN_INDEX(enumerator, name, exact, help) enumerator,
#include "config/search_methods.inl"
#undef VIXEN_INDEX
};
template <>
inline constexpr std::array kWords<SearchMethod> = {
#define VIXEN_INDEX(enumerator, name, exact, help) #name,
#include "config/search_methods.inl"
#undef VIXEN_INDEX
};

enum class Prefilter {  // search.prefilter
  kAuto,
#define VIXEN_PREFILTER(enumerator, name, widest, help) enumerator,
#include "config/prefilters.inl"
#undef VIXEN_PREFILTER
};
template <>
inline constexpr std::array kWords<Prefilter> = {
    "auto",
#define VIXEN_PREFILTER(enumerator, name, widest, help) #name,
#include "config/prefilters.inl"
#undef VIXEN_PREFILTER
};

enum class EmbedSide { kQueries, kLabels };  // embed.side
template <>
inline constexpr std::array kWords<EmbedSide> = {"queries", "labels"};

enum class EmbedType { kFloat16, kFloat32 };  // embed.dtype
template <>
inline constexpr std::array kWords<EmbedType> = {"fp16", "fp32"};

enum class ExportFormat { kPeft, kMerged, kSentenceTransformers, kFaiss };  // export.format
template <>
inline constexpr std::array kWords<ExportFormat> = {"peft", "merged", "sentence-transformers", "faiss"};

enum class ExportType { kFloat32, kBfloat16 };  // export.dtype
template <>
inline constexpr std::array kWords<ExportType> = {"fp32", "bf16"};

enum class PlannedDevice { kH100, kH200, kA100With80, kA100With40, kCpu };  // plan.gpu
template <>
inline constexpr std::array kWords<PlannedDevice> = {"h100", "h200", "a100-80", "a100-40", "cpu"};

enum class Fabric { kNvlinkInfiniband, kNvlinkEthernet, kPcieInfiniband, kPcieEthernet };  // plan.fabric
template <>
inline constexpr std::array kWords<Fabric> = {"nvlink-ib", "nvlink-ethernet", "pcie-ib", "pcie-ethernet"};

enum class KernelChoice { kAuto, kReference, kFused };  // kernels.*
template <>
inline constexpr std::array kWords<KernelChoice> = {"auto", "reference", "fused"};

}  // namespace vixen

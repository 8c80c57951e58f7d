#include "model/weights/model_json.hpp"

#include <cmath>
#include <limits>
#include <utility>

#include "base/check.hpp"
#include "base/json_file.hpp"
#include "base/text.hpp"

namespace vixen {
namespace {

// Beyond any model; products of two or three such sizes and the bytes of tensors still fit 64 bits.
constexpr int64_t kLargestSize = int64_t{1} << 28;
// Beyond any setting; float32 holds its inverse.
constexpr double kLargestNumber = 1e30;

bool is_whole(const nlohmann::ordered_json& value, int64_t low, int64_t high) {
  return value.is_number_unsigned() ? value.get<uint64_t>() <= static_cast<uint64_t>(high) &&
                                          static_cast<int64_t>(value.get<uint64_t>()) >= low
         : value.is_number_integer() ? value.get<int64_t>() >= low && value.get<int64_t>() <= high
                                     : false;
}

}  // namespace

std::filesystem::path model_json_path(const std::filesystem::path& model) {
  return std::filesystem::is_regular_file(model) ? model : model / "config.json";
}

nlohmann::ordered_json read_model_json(const std::filesystem::path& model) {
  return read_json_object(model_json_path(model), "the JSON object of a Hugging Face model");
}

nlohmann::ordered_json model_json_to_save(const std::filesystem::path& model, std::string_view model_class) {
  auto description = read_model_json(model);
  description["architectures"] = nlohmann::ordered_json::array({std::string(model_class)});
  description.erase("auto_map");
  return description;
}

void check_weight_count(const std::string& file, double weights, int64_t layers) {
  constexpr double kMostWeights = 1e13;
  constexpr int64_t kMostLayers = 10000;
  if (layers > kMostLayers)
    fail_user("{}: {} layers, expected at most {}: is the number of layers right?", shown(file), layers, kMostLayers);
  if (weights > kMostWeights)
    fail_user("{}: its sizes come to {:.1e} weights, expected at most {:.0e}: is one of them wrong?", shown(file),
              weights, kMostWeights);
}

JsonObject::JsonObject(std::string file, std::string path, nlohmann::ordered_json json)
    : file_(std::move(file)), path_(std::move(path)), json_(std::move(json)) {}

JsonObject JsonObject::of_model(const std::filesystem::path& model) {
  return {model_json_path(model).string(), "", read_model_json(model)};
}

void JsonObject::fail(const std::string& key, const char* expected) const {
  const std::string file = shown(file_);
  if (!json_.contains(key)) fail_user("{}: key {}{} is missing, expected {}", file, path_, key, expected);
  fail_user("{}: {}{} is {}, expected {}", file, path_, key, shown_json(json_[key]), expected);
}

int64_t JsonObject::size(const std::string& key) const {
  if (!has(key) || !json_[key].is_number_integer() || !is_whole(json_[key], 1, std::numeric_limits<int64_t>::max()))
    fail(key, "a positive integer");
  if (!is_whole(json_[key], 1, kLargestSize)) fail(key, "a size of a model, at most 2^28");
  return json_[key].get<int64_t>();
}

int64_t JsonObject::size(const std::string& key, int64_t fallback) const {
  return has(key) ? size(key) : fallback;
}

int64_t JsonObject::count(const std::string& key, int64_t fallback) const {
  if (!has(key)) return fallback;
  if (!is_whole(json_[key], 0, std::numeric_limits<int64_t>::max())) fail(key, "a non-negative integer");
  return json_[key].get<int64_t>();
}

double JsonObject::positive(const std::string& key) const {
  if (!has(key) || !json_[key].is_number() || !(json_[key].get<double>() > 0)) fail(key, "a positive number");
  if (const auto value = json_[key].get<double>(); value > kLargestNumber || value < 1 / kLargestNumber)
    fail(key, "a number from 1e-30 to 1e30");
  return json_[key].get<double>();
}

double JsonObject::positive(const std::string& key, double fallback) const {
  return has(key) ? positive(key) : fallback;
}

double JsonObject::fraction(const std::string& key, double fallback) const {
  if (!has(key)) return fallback;
  if (!json_[key].is_number() || json_[key].get<double>() < 0 || json_[key].get<double>() >= 1)
    fail(key, "a number in [0, 1)");
  return json_[key].get<double>();
}

double JsonObject::number(const std::string& key, double fallback) const {
  if (!has(key)) return fallback;
  if (!json_[key].is_number() || !std::isfinite(json_[key].get<double>())) fail(key, "a number");
  return json_[key].get<double>();
}

bool JsonObject::flag(const std::string& key, bool fallback) const {
  if (!has(key)) return fallback;
  if (!json_[key].is_boolean()) fail(key, "true or false");
  return json_[key].get<bool>();
}

std::string JsonObject::text(const std::string& key, const std::string& fallback) const {
  if (!has(key)) return fallback;
  if (!json_[key].is_string()) fail(key, "a string");
  return json_[key].get<std::string>();
}

std::vector<std::string> JsonObject::texts(const std::string& key) const {
  std::vector<std::string> all;
  if (!has(key) || !json_[key].is_array()) fail(key, "a list of strings");
  for (const auto& element : json_[key]) {
    if (!element.is_string()) fail(key, "a list of strings");
    all.push_back(element.get<std::string>());
  }
  return all;
}

JsonObject JsonObject::object(const std::string& key) const {
  if (!has(key) || !json_[key].is_object()) fail(key, "an object");
  return {file_, path_ + key + ".", json_[key]};
}

}  // namespace vixen

#include "model/model_json.hpp"

#include <cmath>
#include <utility>

#include "base/check.hpp"
#include "base/file.hpp"

namespace vixen {

std::filesystem::path model_json_path(const std::filesystem::path& model) {
  return std::filesystem::is_regular_file(model) ? model : model / "config.json";
}

nlohmann::ordered_json read_model_json(const std::filesystem::path& model) {
  const std::filesystem::path path = model_json_path(model);
  nlohmann::ordered_json json;
  try {
    json = nlohmann::ordered_json::parse(read_text(path));
  } catch (const nlohmann::json::exception& error) {
    fail_user("{}: {}; expected the JSON object of a Hugging Face model", path.string(), error.what());
  }
  if (!json.is_object())
    fail_user("{}: found a JSON {}, expected the object of a Hugging Face model", path.string(), json.type_name());
  return json;
}

JsonObject::JsonObject(std::string file, std::string path, nlohmann::ordered_json json)
    : file_(std::move(file)), path_(std::move(path)), json_(std::move(json)) {}

JsonObject JsonObject::of_model(const std::filesystem::path& model) {
  return {model_json_path(model).string(), "", read_model_json(model)};
}

void JsonObject::fail(const std::string& key, const char* expected) const {
  if (!json_.contains(key)) fail_user("{}: key {}{} is missing, expected {}", file_, path_, key, expected);
  fail_user("{}: {}{} is {}, expected {}", file_, path_, key, json_[key].dump(), expected);
}

int64_t JsonObject::size(const std::string& key) const {
  if (!has(key) || !json_[key].is_number_integer() || json_[key].get<int64_t>() < 1) fail(key, "a positive integer");
  return json_[key].get<int64_t>();
}

int64_t JsonObject::size(const std::string& key, int64_t fallback) const {
  return has(key) ? size(key) : fallback;
}

int64_t JsonObject::count(const std::string& key, int64_t fallback) const {
  if (!has(key)) return fallback;
  if (!json_[key].is_number_integer() || json_[key].get<int64_t>() < 0) fail(key, "a non-negative integer");
  return json_[key].get<int64_t>();
}

double JsonObject::positive(const std::string& key) const {
  if (!has(key) || !json_[key].is_number() || !(json_[key].get<double>() > 0)) fail(key, "a positive number");
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
  if (!json_[key].is_number()) fail(key, "a number");
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

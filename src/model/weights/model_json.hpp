// Typed reading of a model's config.json: every fault is one line that names file and key.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace vixen {

/// config.json of a model: of the folder, or the file itself where the path names one.
std::filesystem::path model_json_path(const std::filesystem::path& model);
/// What it holds. UserError: unreadable, no JSON object.
nlohmann::ordered_json read_model_json(const std::filesystem::path& model);

/// config.json of a model to be saved: of the folder, with the class that transformers loads it by, and without
/// "auto_map", which names code of the folder that is not copied.
nlohmann::ordered_json model_json_to_save(const std::filesystem::path& model, std::string_view model_class);

/// UserError when config.json describes more weights or layers than any model has: a size is wrong.
void check_weight_count(const std::string& file, double weights, int64_t layers);

/// An object of config.json: the file's own, or one inside it. A key whose value is null counts as absent.
class JsonObject {
 public:
  /// What read_model_json() gives.
  static JsonObject of_model(const std::filesystem::path& model);

  bool has(const std::string& key) const { return json_.contains(key) && !json_[key].is_null(); }
  bool is_null(const std::string& key) const { return json_.contains(key) && json_[key].is_null(); }
  /// Positive integers up to 2^28; without fallback the key must be there.
  int64_t size(const std::string& key) const;
  int64_t size(const std::string& key, int64_t fallback) const;
  /// Integers from 0 on.
  int64_t count(const std::string& key, int64_t fallback) const;
  /// Finite numbers, above 0 (and within 1e-30 to 1e30) or any.
  double positive(const std::string& key) const;
  double positive(const std::string& key, double fallback) const;
  /// In [0, 1).
  double fraction(const std::string& key, double fallback) const;
  double number(const std::string& key, double fallback) const;
  bool flag(const std::string& key, bool fallback) const;
  std::string text(const std::string& key, const std::string& fallback) const;
  std::vector<std::string> texts(const std::string& key) const;
  JsonObject object(const std::string& key) const;

  const std::string& file() const { return file_; }
  const nlohmann::ordered_json& json() const { return json_; }

 private:
  JsonObject(std::string file, std::string path, nlohmann::ordered_json json);
  [[noreturn]] void fail(const std::string& key, const char* expected) const;

  std::string file_;
  std::string path_;  // of this object in the file, "" or "rope_scaling.", for messages
  nlohmann::ordered_json json_;
};

}  // namespace vixen

// Tables of the variants of a family of backbones: arrays of rows, each with the model_type of its config.json.
#pragma once

#include <string>
#include <string_view>

namespace vixen {

/// The row of a model_type; null when the table has none. The table must outlive the pointer.
template <class Table>
const auto* find_variant(const Table& table, std::string_view model_type) {
  const auto* found = std::begin(table);
  while (found != std::end(table) && found->model_type != model_type) ++found;
  return found == std::end(table) ? nullptr : found;
}

/// "qwen2, qwen3": the model_types of the rows, for messages.
template <class Table>
std::string types_of(const Table& table) {
  std::string types;
  for (const auto& row : table) types += (types.empty() ? "" : ", ") + std::string(row.model_type);
  return types;
}

}  // namespace vixen

// What a data set is, whatever its file is called: one hash of the content of each part (docs/data-format.md).
#pragma once

#include <string>
#include <vector>

#include "data/dataset.hpp"

namespace vixen {

/// 16 hexadecimal digits a part. Stored by the tools when a data set is made; prompts are no part of it.
struct DatasetIdentity {
  std::string train, test, label, images;

  bool operator==(const DatasetIdentity&) const = default;
};

/// One part by its name ("train", "test", "label", "images") and what a reader of messages calls it.
struct IdentityPart {
  const char* name;
  const char* words;
  std::string DatasetIdentity::*member;
};
const std::vector<IdentityPart>& identity_parts();

/// The attribute that stores a part: "content_train".
std::string identity_attribute(const IdentityPart& part);

/// Reads every byte of the data set.
DatasetIdentity compute_identity(const Dataset& dataset);

}  // namespace vixen

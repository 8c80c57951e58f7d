// The help of every command against the table of keys.
#include <gtest/gtest.h>

#include "config/keys.hpp"
#include "config/parse.hpp"

namespace vixen {
namespace {

TEST(Help, OfACommandDocumentsTheKeysItReadsAndNoOthers) {
  for (const auto& command : all_commands()) {
    const auto help = help_text(command.name);
    for (const auto& key : all_keys()) {
      const bool shown = help.find("\n  --" + key.name + " ") != help.npos;
      EXPECT_EQ(shown, key.read_by(command.name)) << command.name << " --" << key.name;
      if (shown) {
        EXPECT_NE(help.find(key.help.substr(0, 20)), help.npos) << key.name;
      }
    }
  }
  EXPECT_NE(help_text("").find("embed"), std::string::npos);
  EXPECT_EQ(help_text("").find("serve"), std::string::npos) << "not built";
}

}  // namespace
}  // namespace vixen

// Keys, values, INI files, the command line, and the one line that each mistake gives.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <set>

#include "config/keys.hpp"
#include "config/parse.hpp"
#include "config/run_settings.hpp"
#include "fixtures/fault.hpp"
#include "fixtures/temp_dir.hpp"

namespace vixen {
namespace {

using test::fault_of;

ParsedCommand parse(std::vector<std::string> arguments) {
  std::vector<const char*> argv = {"vixen"};
  for (const auto& argument : arguments) argv.push_back(argument.c_str());
  return parse_command_line(static_cast<int>(argv.size()), argv.data());
}

std::string mistake(std::vector<std::string> arguments) {
  return fault_of([&] { parse(std::move(arguments)); });
}

/// An INI file that lives as long as the object.
class IniFile {
 public:
  explicit IniFile(const std::string& text) { std::ofstream(path()) << text; }
  std::string path() const { return (dir_.path() / "vixen.ini").string(); }

 private:
  test::TempDir dir_;
};

/// Every key set to something other than its default.
Config changed_config() {
  Config config;
  for (const auto& key : all_keys()) {
    const auto before = value_text(key, config);
    const auto type = type_of(key);
    std::string text = "a # odd; \"value\\";
    if (type == "INTEGER") text = before == "17" ? "18" : "17";
    if (type == "NUMBER") text = before == "0.0625" ? "0.125" : "0.0625";
    if (type == "INTEGER,...") text = "1, 2,3";
    if (type == "true|false") text = before == "true" ? "false" : "true";
    if (type != "true|false" && type.find('|') != type.npos)
      text = type.substr(type.rfind('|') + 1) == before ? type.substr(0, type.find('|'))
                                                        : type.substr(type.rfind('|') + 1);
    set_value(key, config, text, "test");
    EXPECT_NE(value_text(key, config), before) << key.name;
  }
  return config;
}

bool same(const Config& a, const Config& b) {
  for (const auto& key : all_keys()) {
    if (value_text(key, a) != value_text(key, b)) return false;
  }
  return true;
}

TEST(Keys, AreUniqueDocumentedAndTheirDefaultsAreValid) {
  std::set<std::string> names;
  for (const auto& key : all_keys()) {
    EXPECT_TRUE(names.insert(key.name).second) << key.name << " is there twice";
    EXPECT_GT(key.help.size(), 10u) << key.name;
    Config config;
    const Config defaults;
    const auto value = value_text(key, defaults);
    if (type_of(key) != "TEXT") {
      EXPECT_NO_THROW(set_value(key, config, value, "default")) << key.name;
    }
    EXPECT_TRUE(same(config, defaults)) << key.name;
  }
}

TEST(Keys, EachHasAPlaceOfItsOwn) {
  const Config changed = changed_config();
  for (const auto& key : all_keys()) {
    Config one;
    apply_ini(one, to_ini(changed, true), "all");
    Config single;
    const std::string value = value_text(key, changed);
    apply_ini(single, fmt::format("{} = {}", key.name, value), "one");
    int differing = 0;
    for (const auto& other : all_keys()) differing += value_text(other, single) != value_text(other, Config());
    EXPECT_EQ(differing, 1) << key.name << " changes another key as well";
  }
}

TEST(Keys, EachIsReadByCommandsThatExist) {
  for (const auto& key : all_keys()) {
    EXPECT_FALSE(key.readers.empty()) << key.name;
    std::vector<std::string> known;  // in the order of the table
    for (const auto& command : all_commands())
      if (key.read_by(command.name)) known.push_back(command.name);
    EXPECT_EQ(key.readers, known) << key.name;
  }
}

/// The keys that a fact holds for, and the member names of whole sections as "section.*".
std::string keys_with(KeyFacts fact) {
  std::map<std::string, std::vector<std::string>> all, found;
  std::vector<std::string> sections;
  for (const auto& key : all_keys()) {
    if (all[key.section()].empty()) sections.push_back(key.section());
    all[key.section()].push_back(key.member());
    if (key.facts & fact) found[key.section()].push_back(key.member());
  }
  std::string text;
  for (const auto& section : sections) {
    if (found[section].empty()) continue;
    const bool whole = found[section] == all[section];
    text += fmt::format("{}: {}\n", section, whole ? "all" : fmt::format("{}", fmt::join(found[section], " ")));
  }
  return text;
}

// Lists that were kept by hand once: a key that enters or leaves one shows here.
TEST(Keys, WhatARunsModelIsReadWith) {
  EXPECT_EQ(keys_with(kOfModel),
            "data: images propensity_a propensity_b\nmodel: all\nlora: all\ntemplate: all\ncompat: all\n");
}

TEST(Keys, WhatARunKeepsWhenItGoesOn) {
  EXPECT_EQ(keys_with(kDecisive),
            "data: images propensity_a propensity_b\n"
            "model: layers compute pooling dropout check_tokenizer mask fusion fusion_heads image_adapter "
            "image_adapter_width\n"
            "lora: rank alpha scale dropout modules\n"
            "template: all\n"
            "train: method sampler epochs batch_size seed lr prototype_lr image_lr weight_decay adam_beta1 adam_beta2 "
            "adam_eps "
            "warmup_steps clip_norm image_dropout\n"
            "loss: all\nprototype: all\ncluster: all\nmining: all\ncomm: gradients\ncompat: all\n");
}

TEST(Keys, WhatEachCommandReads) {
  std::map<std::string, std::string> sections;  // command -> sections, with how many of their keys where not all
  for (const auto& command : all_commands()) {
    std::map<std::string, int> all, read;
    std::vector<std::string> order;
    for (const auto& key : all_keys()) {
      if (all[key.section()]++ == 0) order.push_back(key.section());
      read[key.section()] += key.read_by(command.name);
    }
    for (const auto& name : order) {
      if (read[name] == 0) continue;
      auto& text = sections[command.name];
      text += (text.empty() ? "" : " ") + (name.empty() ? "-" : name);
      if (read[name] < all[name]) text += fmt::format(":{}", read[name]);
    }
  }
  EXPECT_EQ(sections["train"],
            "-:2 run data:6 model lora template train loss prototype cluster mining search:11 evaluate:2 comm kernels "
            "compat");
  EXPECT_EQ(sections["embed"], "- run:2 data:5 model:10 lora:5 template train:1 embed comm:2 kernels:6 compat");
  EXPECT_EQ(sections["search"], "- run:1 search comm:2 kernels:1");
  EXPECT_EQ(sections["evaluate"],
            "- run:2 data:6 model:10 lora:5 template train:1 search:11 augment evaluate comm:2 kernels:7 compat");
  EXPECT_EQ(sections["predict"],
            "- run:2 data:5 model:10 lora:5 template train:1 search:11 augment predict comm:2 kernels:7 compat");
  EXPECT_EQ(sections["mine"],
            "- run:2 data:5 model:10 lora:5 template train:1 mining:6 mine search:11 comm:2 kernels:7 compat");
  EXPECT_EQ(sections["export"], "-:2 run:2 data:1 export comm:2");
  EXPECT_EQ(
      sections["plan"],
      "-:2 run:2 data:3 model:10 lora template train:12 loss:3 prototype cluster:3 mining:5 search:7 evaluate:1 plan "
      "comm compat");
  EXPECT_EQ(sections["inspect"], "run:1");
  EXPECT_EQ(
      sections["bench"],
      "- run:1 data:5 model lora template train:20 loss prototype cluster:1 mining:6 search:12 evaluate:1 comm kernels "
      "compat");
  EXPECT_EQ(sections["doctor"], "- run:1 doctor comm:2");
}

TEST(Keys, CopiedValuesAreTheSameAndNoOtherKeyIs) {
  const Config changed = changed_config();
  for (const auto& key : all_keys()) {
    Config copy;
    copy_value(key, changed, copy);
    for (const auto& other : all_keys())
      EXPECT_EQ(value_text(other, copy), value_text(other, other.name == key.name ? changed : Config())) << key.name;
  }
}

TEST(RunSettings, TakeEveryKeyOfTheirFactAndLeaveTheRest) {
  const Config changed = changed_config();
  Config decided, modelled;
  apply_ini(decided, decisive_settings(changed), "checkpoint");
  take_model_settings(changed, modelled);
  const Config read = read_by("search", changed);
  for (const auto& key : all_keys()) {
    const auto expected = [&](bool taken) { return value_text(key, taken ? changed : Config()); };
    EXPECT_EQ(value_text(key, decided), expected(key.facts & kDecisive)) << key.name;
    EXPECT_EQ(value_text(key, modelled), expected(key.facts & kOfModel)) << key.name;
    EXPECT_EQ(value_text(key, read), expected(key.read_by("search"))) << key.name;
  }
}

// Checkpoints compare this text with that of the command that goes on.
TEST(RunSettings, DecisiveTextHoldsEveryKeyInTheTablesOrder) {
  EXPECT_EQ(decisive_settings(Config()), to_ini(Config(), /*only_changed=*/false));
  Config other;
  other.train.memory_gb = 3;
  other.run.dir = "elsewhere";
  other.model.path = "copy";
  EXPECT_EQ(decisive_settings(other), decisive_settings(Config()));
  other.loss.negatives = 3;
  EXPECT_NE(decisive_settings(other), decisive_settings(Config()));
}

TEST(RetiredKeys, OfOldFilesAreSkippedWithALineAndRefusedAsOptions) {
  Config config;
  EXPECT_EQ(apply_ini(config, "[embed]\nside = labels\nchunk_rows = 512\ndtype = fp32\n", "RUN/config.ini"),
            (std::vector<std::string>{"RUN/config.ini:3: embed.chunk_rows is ignored: nothing ever read it"}));
  EXPECT_EQ(config.embed.side, EmbedSide::kLabels);
  EXPECT_EQ(config.embed.dtype, EmbedType::kFloat32);
  EXPECT_TRUE(apply_ini(config, "[embed]\nside = queries\n", "x").empty());
  const IniFile file("[embed]\nchunk_rows = 7\n");
  EXPECT_EQ(parse({"embed", "--out", "x", "--config", file.path()}).warnings,
            (std::vector<std::string>{file.path() + ":2: embed.chunk_rows is ignored: nothing ever read it"}));
  EXPECT_EQ(mistake({"embed", "--out", "x", "--embed.chunk_rows", "7"}),
            "command line: --embed.chunk_rows is no key any more (nothing ever read it): leave it out");
  for (const auto& key : retired_keys()) EXPECT_EQ(find_key(key.name), nullptr) << key.name << " is in use";
}

TEST(Ini, RoundTripsEveryKey) {
  const Config changed = changed_config();
  for (const bool only_changed : {true, false}) {
    Config read;
    apply_ini(read, to_ini(changed, only_changed), "text");
    EXPECT_TRUE(same(read, changed)) << to_ini(read, false);
  }
  EXPECT_EQ(to_ini(Config(), true), "");
  Config read;
  apply_ini(read, to_ini(Config(), false), "text");
  EXPECT_TRUE(same(read, Config()));
}

TEST(Ini, RoundTripsNumbersToTheBit) {
  Config config;
  config.train.lr = 0.1 + 0.2;
  config.train.seed = ~uint64_t{0};
  config.train.epochs = std::numeric_limits<int64_t>::max();
  Config read;
  apply_ini(read, to_ini(config, true), "text");
  EXPECT_EQ(read.train.lr, config.train.lr);
  EXPECT_EQ(read.train.seed, config.train.seed);
  EXPECT_EQ(read.train.epochs, config.train.epochs);
}

TEST(Ini, TakesCommentsBlanksQuotesAndWindowsLineEnds) {
  Config config;
  apply_ini(config,
            "; first\r\ndevice=cuda\r\n\r\n[train]  # behind\r\n  lr = 1e-3  ; more\r\n[data]\r\npath = /a#b/\"c\"  # "
            "d\n[run]\ndir = \" x # y \"\n",
            "f.ini");
  EXPECT_EQ(config.device, DeviceKind::kCuda);
  EXPECT_EQ(config.train.lr, 1e-3);
  EXPECT_EQ(config.data.path, "/a#b/\"c\"");
  EXPECT_EQ(config.run.dir, " x # y ");
}

TEST(Ini, MistakesNameFileLineAndTheNearestKey) {
  Config config;
  const auto at = [&](const std::string& text) { return fault_of([&] { apply_ini(config, text, "c/x.ini"); }); };
  EXPECT_EQ(at("[train]\n\nbatchsize = 3\n"),
            "c/x.ini:3: unknown key train.batchsize (did you mean train.batch_size?)");
  EXPECT_EQ(at("[train]\nlr = fast\n"), "c/x.ini:2: train.lr = fast: expected a number");
  EXPECT_EQ(at("[trian]\n"), "c/x.ini:1: unknown section [trian] (did you mean train?)");
  EXPECT_EQ(at("[train\n"), "c/x.ini:1: found \"[train\", expected [section]");
  EXPECT_EQ(at("[train]\nlr\n"), "c/x.ini:2: found \"lr\", expected key = value");
  EXPECT_EQ(at("[run]\ndir = \"x\n"), "c/x.ini:2: found no closing quote, expected one on the same line");
  EXPECT_EQ(at("[loss]\ntie_gradient = haf\n"),
            "c/x.ini:2: loss.tie_gradient = haf: expected one of half, zero (did you mean half?)");
}

TEST(Ini, ReadsWhatEditorsLeaveInAFile) {
  const auto read = [](const std::string& text) {
    Config config;
    EXPECT_EQ(fault_of([&] { apply_ini(config, text, "f.ini"); }), "(no fault)") << text;
    return config;
  };
  for (const char* end : {"\n", "\r\n", "\r"}) {
    const std::vector<std::string> lines = {"[train]", "epochs = 3", "lr = 0.5", "", "[run]", "dir = x"};
    const auto config = read(fmt::format("{}", fmt::join(lines, end)));
    EXPECT_EQ(config.train.epochs, 3);
    EXPECT_EQ(config.train.lr, 0.5);
    EXPECT_EQ(config.run.dir, "x");
  }
  EXPECT_EQ(read("\xef\xbb\xbf[train]\nepochs = 3\n").train.epochs, 3) << "a byte order mark";
  EXPECT_EQ(read("\xef\xbb\xbf# a comment\r\ntrain.epochs = 3\r\n").train.epochs, 3);
  EXPECT_EQ(read("[train]\nepochs\u00a0=\u00a03\u00a0\n").train.epochs, 3) << "no-break spaces";
  EXPECT_EQ(read("[train\u3000]\u2003# comment\n\u200bepochs = 3\u00a0# three\n").train.epochs, 3);
  EXPECT_EQ(read("[cluster]\ndouble_at = 3,\u00a04\n").cluster.double_at, (std::vector<int64_t>{3, 4}));
  EXPECT_EQ(read("[run]\ndir = \"\u00a0x\u00a0\"\n").run.dir, "\u00a0x\u00a0") << "kept within quotes";
  EXPECT_EQ(read("[train];\nepochs = 3 ;4\n[train]\nepochs = 5").train.epochs, 5);
}

TEST(Ini, RefusesWhatItWouldLoseOrMisread) {
  Config config;
  const auto at = [&](const std::string& text) { return fault_of([&] { apply_ini(config, text, "f.ini"); }); };
  EXPECT_EQ(at("[train] epochs = 3\n"),
            "f.ini:1: found \"epochs = 3\" behind the section, expected the end of the line");
  EXPECT_EQ(at("\r\r[train] x\r"), "f.ini:3: found \"x\" behind the section, expected the end of the line");
  EXPECT_EQ(at("[run]\ndir = \"x\" y\n"),
            "f.ini:2: found \"y\" behind the closing quote, expected the end of the line");
  EXPECT_EQ(at("[train]\nepochs = \u201c3\u201d\n"),
            "f.ini:2: found \u201c3\u201d in the quotes of a word processor, expected \" or none");
  EXPECT_FAULT(at("[data]\npath = \u2018/x.h5\u2019\n"), "the quotes of a word processor");
  EXPECT_EQ(at("[data]\npath = '/x.h5'\n"), "f.ini:2: found '/x.h5', expected double quotes or none");
  EXPECT_FAULT(at("[cluster]\ndouble_at = 20, \\\n  40\n"), "f.ini:2: found \\ at the end of the line");
  EXPECT_FAULT(at("[cluster]\ndouble_at = 20,\n  40\n"), "f.ini:2: cluster.double_at = 20,: expected whole numbers");
  EXPECT_EQ(at("[train]\nlr = 0,0005\n"), "f.ini:2: train.lr = 0,0005: expected a number (with a point, not a comma)");
  EXPECT_FAULT(at("[train]\nmemory_gb = 76GB\n"), "f.ini:2: train.memory_gb = 76GB: expected a number");
  EXPECT_EQ(at(std::string("\xff\xfe[\0t\0", 6)),
            "f.ini: found UTF-16 text, expected UTF-8: save the file in that encoding");
  EXPECT_FAULT(at(std::string("[\0t\0r\0", 6)), "found UTF-16 text");
  EXPECT_TRUE(same(config, Config())) << "a refused value changes nothing";
}

TEST(Ini, ShowsWhatATerminalHides) {
  Config config;
  const auto at = [&](const std::string& text) { return fault_of([&] { apply_ini(config, text, "f.ini"); }); };
  EXPECT_EQ(at(std::string("[train]\nepochs = 3\0\n", 20)),
            "f.ini:2: train.epochs = 3\\x00: found a control character in the value, expected none");
  EXPECT_FAULT(at("[train]\nepo\u200bchs = 3\n"),
               "f.ini:2: unknown key train.epo\\u200bchs (did you mean train.epochs?)");
  EXPECT_FAULT(at("[train]\nepochs = 3\u200b0\n"), "train.epochs = 3\\u200b0: expected a whole number");
  EXPECT_FAULT(at("[tr\u00adain]\n"), "unknown section [tr\\u00adain]");
  EXPECT_FAULT(at("[train]\nlr = \xff\n"), "train.lr = \\xff: expected a number");
  const std::string long_line = at(std::string(5000, 'x'));
  EXPECT_LT(long_line.size(), 200u) << "a line is quoted up to its beginning";
}

TEST(Ini, QuotesWhatItWouldNotReadBack) {
  for (const std::string value : {"\u201cx\u201d", "'x'", "\u00a0x", "x\u3000", "x\\", "\ufeffx"}) {
    Config config, read;
    config.run.dir = value;
    apply_ini(read, to_ini(config, /*only_changed=*/true), "f.ini");
    EXPECT_EQ(read.run.dir, value);
  }
}

TEST(Ini, OtherFilesAreNamed) {
  const IniFile pointer("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n");
  EXPECT_FAULT(mistake({"bench", "--config", pointer.path()}), pointer.path() + ": found a Git LFS pointer");
  const IniFile page("<!DOCTYPE html>\n<html></html>\n");
  EXPECT_FAULT(mistake({"bench", "--config", page.path()}), ": found an HTML page");
  const IniFile json("{\"train\": {\"epochs\": 3}}\n");
  EXPECT_FAULT(mistake({"bench", "--config", json.path()}), ":1: found \"{\"train\"");
}

TEST(Values, OutOfRangeGivesOneLine) {
  Config config;
  const auto set = [&](const char* name, const char* text) {
    return fault_of([&] { set_value(*find_key(name), config, text, "w"); });
  };
  EXPECT_EQ(set("train.batch_size", "0"), "w: train.batch_size = 0: expected a whole number at least 1");
  EXPECT_EQ(set("train.lr", "-1e-9"), "w: train.lr = -1e-9: expected a number at least 0");
  EXPECT_EQ(set("train.lr", "nan"), "w: train.lr = nan: expected a number");
  EXPECT_EQ(set("train.lr", "1e999"), "w: train.lr = 1e999: expected a number");
  EXPECT_EQ(set("prototype.dropout", "1"), "w: prototype.dropout = 1: expected a number in [0, 1)");
  EXPECT_EQ(set("search.prefilter", "double"), "w: search.prefilter = double: expected one of auto, fp32, bf16, int8");
  EXPECT_EQ(set("search.method", "faiss"),
            "w: search.method = faiss: expected one of exact, faiss_flat, faiss_ivf_pq, faiss_hnsw");
  EXPECT_EQ(set("search.k", "0"), "w: search.k = 0: expected a whole number at least 1");
  EXPECT_EQ(set("search.k", "1.5"), "w: search.k = 1.5: expected a whole number");
  EXPECT_EQ(set("search.k", "99999999999999999999"), "w: search.k = 99999999999999999999: expected a whole number");
  EXPECT_EQ(set("train.seed", "-1"), "w: train.seed = -1: expected a whole number, at least 0");
  EXPECT_EQ(set("cluster.double_at", "1,,2"),
            "w: cluster.double_at = 1,,2: expected whole numbers separated by commas");
  EXPECT_EQ(set("cluster.double_at", "1,-2"), "w: cluster.double_at = 1,-2: expected whole numbers at least 0");
  EXPECT_EQ(set("data.images", "yes"), "w: data.images = yes: expected one of true, false");
  EXPECT_EQ(set("data.split", "dev"), "w: data.split = dev: expected one of train, test");
  EXPECT_EQ(set("device", "tpu"), "w: device = tpu: expected one of cpu, cuda (did you mean cpu?)");
  EXPECT_EQ(
      set("export.format", "peftt"),
      "w: export.format = peftt: expected one of peft, merged, sentence-transformers, faiss (did you mean peft?)");
  EXPECT_EQ(set("plan.gpu", "b200"),
            "w: plan.gpu = b200: expected one of h100, h200, a100-80, a100-40, cpu (did you mean h200?)");
  EXPECT_EQ(set("run.dir", "a\nb"), "w: run.dir = a\\x0ab: found a control character in the value, expected none");
  EXPECT_TRUE(same(config, Config())) << "a refused value changes nothing";
  set_value(*find_key("cluster.double_at"), config, "", "w");
  EXPECT_TRUE(config.cluster.double_at.empty());
}

TEST(CommandLine, TakesBothFormsFlagsListsAndEnums) {
  const auto parsed = parse({"train", "--print-config", "--threads=3", "--train.lr", "0.25", "--run.resume", "false",
                             "--loss.fixed_positive", "--cluster.double_at", "3,4", "--model.compute", "bf16",
                             "--data.propensity_a", "-1", "--data.images=false"});
  const auto& config = parsed.config;
  EXPECT_EQ(config.command, "train");
  EXPECT_EQ(config.threads, 3);
  EXPECT_EQ(config.train.lr, 0.25);
  EXPECT_FALSE(config.run.resume);
  EXPECT_TRUE(config.loss.fixed_positive);
  EXPECT_EQ(config.cluster.double_at, (std::vector<int64_t>{3, 4}));
  EXPECT_EQ(config.model.compute, Compute::kBfloat16);
  EXPECT_EQ(config.data.propensity_a, -1);
  EXPECT_FALSE(config.data.images);
  EXPECT_FALSE(parsed.help);
  const auto embed = parse({"embed", "--out", "o.h5", "--embed.side=labels", "--embed.prototypes"}).config;
  EXPECT_EQ(embed.out, "o.h5");
  EXPECT_EQ(embed.embed.side, EmbedSide::kLabels);
  EXPECT_TRUE(embed.embed.prototypes);
}

TEST(CommandLine, AnOptionThatTheCommandDoesNotReadNamesThoseThatDo) {
  EXPECT_EQ(mistake({"embed", "--out", "x", "--train.lr", "1"}),
            "command line: --train.lr: vixen embed does not read it, train and bench do");
  EXPECT_EQ(mistake({"train", "--search.k=3"}),
            "command line: --search.k: vixen train does not read it, search and bench do");
  EXPECT_EQ(mistake({"export", "--device", "cuda"}),
            "command line: --device: vixen export does not read it, train, embed, search, evaluate, predict, mine, "
            "bench and doctor do");
  EXPECT_EQ(mistake({"evaluate", "--text"}),
            "command line: --predict.text: vixen evaluate does not read it, predict does");
  for (const auto& command : all_commands())
    for (const auto& key : all_keys()) {
      const std::string value = value_text(key, Config());
      const auto fault =
          mistake({command.name, "--print-config", fmt::format("--{}={}", key.name, value.empty() ? "x" : value)});
      EXPECT_EQ(fault == "(no fault)", key.read_by(command.name)) << command.name << " --" << key.name << ": " << fault;
    }
}

TEST(CommandLine, AFileMayHoldKeysOfOtherCommandsWhichChangeNothing) {
  const IniFile file("device = cuda\n[train]\nlr = 1\n[embed]\nside = labels\n");
  const auto parsed = parse({"plan", "--model.path", "m", "--config", file.path()});
  EXPECT_EQ(parsed.config.device, DeviceKind::kCpu) << "a plan needs no GPU";
  EXPECT_EQ(parsed.config.train.lr, TrainConfig{}.lr);
  EXPECT_FAULT(parsed.resolved_text, "\nlr = 1  # " + file.path() + ":3 (not read by plan)\n");
  EXPECT_EQ(parse({"embed", "--out", "x", "--config", file.path()}).config.embed.side, EmbedSide::kLabels);
  const IniFile unknown("[train]\nlearning = 1\n");
  EXPECT_FAULT(mistake({"plan", "--model.path", "m", "--config", unknown.path()}), "unknown key train.learning");
}

TEST(CommandLine, ABareFlagBeforeAnotherKeyOrAtTheEndIsTrue) {
  EXPECT_TRUE(parse({"predict", "--text", "--out", "x"}).config.predict.text);
  EXPECT_TRUE(parse({"predict", "--out", "x", "--text"}).config.predict.text);
  EXPECT_FALSE(parse({"predict", "--out", "x", "--text=false"}).config.predict.text);
  EXPECT_EQ(mistake({"predict", "--out", "x", "--text", "maybe"}),
            "command line: --predict.text maybe: expected true or false");
}

TEST(CommandLine, LaterValuesWin) {
  const IniFile first("[train]\nlr = 1\nepochs = 1\nseed = 1\n"), second("[train]\nlr = 2\nepochs = 2\n");
  const auto parsed =
      parse({"bench", "--train.lr", "3", "--config", first.path(), "--config", second.path(), "--train.lr=4"});
  EXPECT_EQ(parsed.config.train.lr, 4);
  EXPECT_EQ(parsed.config.train.epochs, 2);
  EXPECT_EQ(parsed.config.train.seed, 1u);
}

TEST(CommandLine, ResolvedTextSaysWhereValuesCameFromAndParsesBack) {
  const IniFile file("[train]\n\nlr = 1\n");
  const auto parsed = parse({"train", "--config", file.path(), "--train.seed", "9", "--run.dir", "r # 1",
                             "--print-config", "--evaluate.k", "3"});
  EXPECT_TRUE(parsed.print_config);
  const auto& text = parsed.resolved_text;
  EXPECT_NE(text.find("\nlr = 1  # " + file.path() + ":3\n"), text.npos) << text;
  EXPECT_NE(text.find("\nseed = 9  # command line\n"), text.npos) << text;
  EXPECT_NE(text.find("\nweight_decay = 0.01  # default\n"), text.npos) << text;
  EXPECT_EQ(text.find("[predict]"), text.npos) << "train reads no key of predict";
  Config read;
  apply_ini(read, text, "resolved");
  EXPECT_TRUE(same(read, parsed.config));
}

TEST(CommandLine, MistakesNameTheNearestName) {
  EXPECT_EQ(
      mistake({"tarin"}),
      "unknown command tarin (did you mean train?): expected one of train, embed, search, evaluate, predict, mine, "
      "export, plan, inspect, bench, doctor");
  EXPECT_EQ(
      mistake({"serve"}),
      "unknown command serve: expected one of train, embed, search, evaluate, predict, mine, export, plan, inspect, "
      "bench, doctor");
  EXPECT_EQ(mistake({"bench", "--train.batchsize", "3"}),
            "command line: unknown key --train.batchsize (did you mean --train.batch_size?)");
  EXPECT_EQ(mistake({"bench", "--batch_size=3"}),
            "command line: unknown key --batch_size (did you mean --train.batch_size?)");
  EXPECT_EQ(mistake({"bench", "--zzzzzzzzzz", "3"}), "command line: unknown key --zzzzzzzzzz");
  EXPECT_EQ(mistake({"bench", "--train.l", "3"}).find("command line: unknown key --train.l"), 0u) << "no abbreviations";
  EXPECT_EQ(mistake({"bench", "stray"}), "command line: stray: vixen bench takes --section.key VALUE only");
  EXPECT_EQ(mistake({"bench", "--train.lr"}), "command line: --train.lr: expected a value behind it");
  EXPECT_EQ(mistake({"bench", "--train.lr", "x"}), "command line: train.lr = x: expected a number");
  EXPECT_EQ(mistake({"bench", "--config", "/none.ini"}), "cannot open /none.ini: No such file or directory");
  EXPECT_EQ(mistake({"search", "--search.corpus", "a", "--out", "b"}).find("vixen search needs --search.queries"), 0u);
  EXPECT_EQ(mistake({"bench", "--loss.margin_min", "0.4"}),
            "command line: loss.margin_min = 0.4: expected at most loss.margin_max = 0.3 (default)");
}

TEST(CommandLine, MiningSettingsThatCannotWorkTogetherAreRefused) {
  EXPECT_EQ(mistake({"bench", "--mining.columns", "1500", "--mining.depth", "2"}),
            "command line: mining.depth = 2: expected at least 3: a batch of 512 queries gives 1500 columns "
            "(mining.columns, command line)");
  EXPECT_EQ(mistake({"bench", "--mining.columns", "64", "--mining.depth", "0"}),
            "command line: mining.depth = 0: expected a whole number in [1, 16384]");
  const auto train = [](std::vector<std::string> more) {
    std::vector<std::string> line = {"train", "--data.path",      "a", "--model.path", "b", "--run.dir",
                                     "c",     "--mining.columns", "64"};
    line.insert(line.end(), more.begin(), more.end());
    return mistake(line);
  };
  EXPECT_EQ(train({"--mining.skip_first", "100"}),
            "command line: mining.skip_first = 100: expected less than mining.depth = 100 (default)");
  EXPECT_EQ(train({"--mining.relative_margin", "1.05"}),
            "command line: mining.relative_margin = 1.05: expected a number in [0, 1]");
  EXPECT_EQ(train({"--mining.absolute_margin", "-1"}),
            "command line: mining.absolute_margin = -1: expected a number in [0, 2]");
  EXPECT_EQ(train({"--mining.draw", "softest"}),
            "command line: mining.draw = softest: expected one of hardest, uniform, score");
}

TEST(CommandLine, WhatMineWritesFitsWhatIsSearched) {
  const auto mine = [](std::vector<std::string> more) {
    std::vector<std::string> arguments = {"mine", "--out", "x"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return mistake(arguments);
  };
  EXPECT_EQ(mine({"--mining.depth", "5"}), "default: mine.k = 10: expected at most mining.depth = 5 (command line)");
  EXPECT_EQ(mine({"--mining.depth", "5", "--mine.k", "5"}), "(no fault)");
  EXPECT_EQ(mine({"--mining.depth", "5", "--mine.k", "0"}), "(no fault)");
  EXPECT_EQ(mine({"--mining.skip_first", "100"}),
            "command line: mining.skip_first = 100: expected less than mining.depth = 100 (default)");
  EXPECT_EQ(mine({"--mine.k", "0", "--mine.format", "triplet"}), "(no fault)");
  EXPECT_EQ(mine({"--mine.k", "0", "--mine.format", "n-tuple"}),
            "command line: mine.k = 0: expected at least 1, for every line has k negatives (mine.format = n-tuple, "
            "command line)");
  EXPECT_EQ(mine({"--mining.columns", "8"}),
            "command line: --mining.columns: vixen mine does not read it, train, plan and bench do");
}

TEST(CommandLine, TheLaterOfTwoLinesWinsAndBothAreNamed) {
  const IniFile file("[train]\nepochs = 3\nlr = 1\nepochs = 4\n");
  const auto parsed = parse({"bench", "--config", file.path()});
  EXPECT_EQ(parsed.config.train.epochs, 4);
  EXPECT_FAULT(parsed.resolved_text, "\nepochs = 4  # " + file.path() + ":4 (instead of " + file.path() + ":2)\n");
}

TEST(CommandLine, NamesWhatAWordProcessorMadeOfIt) {
  EXPECT_EQ(mistake({"bench", "\u2014train.lr", "1"}),
            "command line: \u2014train.lr: found the dash of a word processor, expected --");
  EXPECT_EQ(mistake({"bench", "--data.path", "\u201cx.h5\u201d"}),
            "command line: --data.path: found \u201cx.h5\u201d in the quotes of a word processor, expected \" or none");
  EXPECT_EQ(
      mistake({"bench", "--train.lr\u00a0", "1"}).find("command line: unknown key --train.lr\\u00a0 (did you mean"),
      0u);
  EXPECT_EQ(mistake({"bench", "--train.lr", "--train.seed", "1"}),
            "command line: --train.lr: found --train.seed behind it, expected a value");
  EXPECT_EQ(parse({"bench", "--train.epochs", "3", "--train.epochs", "4"}).config.train.epochs, 4);
  EXPECT_EQ(parse({"bench", "--data.path=--x"}).config.data.path, "--x");
}

TEST(CommandLine, InspectTakesFiles) {
  const auto parsed = parse({"inspect", "a.h5", "--run.log_level", "error", "run/"});
  EXPECT_EQ(parsed.positional, (std::vector<std::string>{"a.h5", "run/"}));
  EXPECT_EQ(parsed.config.run.log_level, LogLevel::kError);
}

TEST(Help, IsAskedForInEveryWay) {
  EXPECT_TRUE(parse({}).help);
  EXPECT_TRUE(parse({"--help"}).help);
  EXPECT_TRUE(parse({"train", "--help"}).help);
  EXPECT_EQ(parse({"train", "--help"}).config.command, "train");
}

TEST(Version, IsAskedForAloneAndOfACommand) {
  EXPECT_TRUE(parse({"--version"}).version);
  EXPECT_TRUE(parse({"train", "--version"}).version);
  EXPECT_FALSE(parse({"bench"}).version);
}

}  // namespace
}  // namespace vixen

"""The check of what commands read finds a key that no reached code reads, and follows code in every way that it is written."""

import os
import pathlib
import stat
import subprocess
import sys
import tempfile
import unittest

from made_up_tree import write_tree

TOOL = pathlib.Path(__file__).resolve().parents[2] / "tools" / "check_config_reads.py"
CONFIG = """struct TrainConfig {
  double lr = 1e-3;    // peak
  double decay = 0;
  int64_t epochs = 6;
  std::vector<int64_t> steps = {1, 2};
};

struct PieceConfig {
  std::string closing = "x";
};

struct TemplateConfig : PieceConfig {
  std::string prefix;
};

struct Config {
  std::string command;
  int64_t threads = 0;
  TrainConfig train;
  TemplateConfig prompt;
};
"""
GOOD = {
    "config/config.hpp": CONFIG,
    "main.cpp": "int run_command() {\n  return train_command() + embed_command();\n}\n\nint run_job(const Config& config) {\n"
    "  return config.threads;\n}\n",
    "commands/train_command.cpp": "int train_command(const Config& config) {\n  Trainer trainer(config);\n  return trainer.run();\n}\n",
    "commands/embed_command.cpp": "int embed_command(const Config& asked) {\n  return pack(asked) + kTable[0].make(asked);\n}\n",
    "train/trainer.hpp": "class Trainer {\n public:\n  int run();\n\n private:\n  Config config_;\n  AdamW optimiser_;\n};\n",
    "train/trainer.cpp": "int Trainer::run() {\n  const auto& train = config_.train;\n"
    "  // config_.prompt.closing\n  return train.epochs;\n}\n"
    "\nvoid Trainer::stop() {\n  use(config_.train.steps);\n}\n",
    "train/adamw.cpp": "class AdamW {\n  TrainConfig config_;\n};\n\n"
    "AdamW::AdamW(const TrainConfig& config) {\n  rate_ = config.lr + config.*kRates[0].member;\n}\n",
    "data/pack.cpp": "int pack(const Config& config) {\n  return closing_of(config.prompt);\n}\n\n"
    "int closing_of(const PieceConfig& prompt) {\n  return prompt.closing.size();\n}\n",
    "train/rates.cpp": "const Rate kRates[] = {\n    {&TrainConfig::decay},\n};\n",
    "data/table.cpp": "const Row kTable[] = {\n    {[](const Config& config) { return config.train.steps.size(); }},\n};\n",
}
ACCEPTED = {"train": "threads train.lr train.epochs train.decay", "embed": "threads template.closing train.steps"}


class ConfigReadsTest(unittest.TestCase):
    def run_on(self, changes, accepted):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            write_tree(root / "src", {**GOOD, **changes})
            helps = "\n".join(f"{command}) printf '  --%s TEXT\\n' {keys} ;;" for command, keys in {**ACCEPTED, **accepted}.items())
            vixen = root / "vixen"
            vixen.write_text(f"#!/bin/sh\ncase $1 in\n{helps}\nesac\n")
            os.chmod(vixen, stat.S_IRWXU)
            done = subprocess.run([sys.executable, TOOL, vixen, root / "src"], capture_output=True, text=True, check=False)
            return done.returncode, done.stdout + done.stderr

    def assert_fault(self, changes, accepted, command, key):
        code, text = self.run_on(changes, accepted)
        self.assertEqual(code, 1, text)
        self.assertIn(f"vixen {command} accepts --{key}, which no code that it runs reads\n2 commands, 1 faults", text)

    def test_all_ways_to_read_a_key_are_seen(self):
        self.assertEqual(self.run_on({}, {}), (0, "2 commands, 0 faults\n"))

    def test_names_that_a_table_of_rows_pastes_together(self):
        table = {
            "config/kinds.inl": "KIND(kOne, one)\n",
            "data/kinds.cpp": "const Kinds& kinds() {\n#define KIND(value, name) {make_##name##_kind},\n  static const Kinds all = {\n"
            '#include "config/kinds.inl"\n  };\n  return all;\n}\n\n'
            "int make_one_kind(const TrainConfig& config) {\n  return config.epochs;\n}\n",
            "commands/embed_command.cpp": GOOD["commands/embed_command.cpp"].replace("return", "return kinds() +"),
        }
        self.assertEqual(self.run_on(table, {"embed": "threads train.epochs"}), (0, "2 commands, 0 faults\n"))
        self.assert_fault({**table, "config/kinds.inl": "KIND(kTwo, two)\n"}, {"embed": "threads train.epochs"}, "embed", "train.epochs")

    def test_a_key_that_only_another_command_reads(self):
        self.assert_fault({}, {"embed": "threads train.lr"}, "embed", "train.lr")

    def test_a_method_that_nobody_calls(self):
        self.assert_fault({}, {"train": "threads train.steps"}, "train", "train.steps")

    def test_a_comment_and_an_assignment_are_no_reads(self):
        self.assert_fault({}, {"train": "threads template.closing"}, "train", "template.closing")
        writes = GOOD["data/pack.cpp"].replace("return prompt.closing.size()", "prompt.closing = 3")
        self.assert_fault({"data/pack.cpp": writes}, {}, "embed", "template.closing")

    def test_handing_a_section_on_is_no_read(self):
        self.assert_fault({"train/adamw.cpp": GOOD["train/adamw.cpp"].replace("config.lr", "config")}, {}, "train", "train.lr")


if __name__ == "__main__":
    unittest.main()

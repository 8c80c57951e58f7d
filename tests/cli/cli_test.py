"""Exit codes and messages of the binary: cli_test.py VIXEN MPIEXEC.

0 done; 2 the user's mistake, one line on stderr; the same under mpirun, where the line of a mistake that every rank meets
appears once.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

VIXEN, MPIEXEC = sys.argv[1:3]
MISSING = ["search", "--search.corpus", "/none/corpus.h5", "--search.queries", "/none/queries.h5", "--out"]


def run(*arguments, ranks=0, **environment):
    command = [MPIEXEC, "-n", str(ranks), "--oversubscribe"] if ranks else []
    done = subprocess.run(
        [*command, VIXEN, *arguments], capture_output=True, text=True, timeout=100, check=False, env={**os.environ, **environment}
    )
    return done.returncode, done.stdout, done.stderr


class CliTest(unittest.TestCase):
    def assert_mistake(self, arguments, *words):
        code, out, err = run(*arguments)
        self.assertEqual((code, out), (2, ""), err)
        self.assertEqual(err.count("\n"), 1, err)
        self.assertTrue(err.startswith("vixen: "), err)
        for word in words:
            self.assertIn(word, err)

    def test_help(self):
        for arguments in ([], ["--help"], ["train", "--help"], ["search", "--help"]):
            code, out, err = run(*arguments)
            self.assertEqual((code, err), (0, ""), arguments)
            self.assertIn("usage: vixen", out)

    def test_print_config_is_a_config(self):
        code, first, _ = run("train", "--train.lr", "0.25", "--print-config")
        self.assertEqual(code, 0)
        self.assertIn("lr = 0.25  # command line", first)
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "x.ini"
            path.write_text(first)
            code, second, _ = run("train", "--config", str(path), "--print-config")
            self.assertEqual(code, 0)
            line = first.splitlines().index("lr = 0.25  # command line") + 1
            self.assertIn(f"lr = 0.25  # {path}:{line}", second)

    def test_mistakes_are_one_line(self):
        self.assert_mistake(["tarin"], "tarin", "train")
        self.assert_mistake(["train", "--train.batchsize", "4"], "--train.batchsize", "--train.batch_size")
        self.assert_mistake(["train", "--train.batch_size", "0"], "train.batch_size = 0", "at least 1")
        self.assert_mistake(["train", "--config", "/none.ini"], "/none.ini", "No such file")
        self.assert_mistake(["train"], "--data.path")
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "x.ini"
            path.write_text("[train]\nlr = fast\n")
            self.assert_mistake(["train", "--config", str(path)], f"{path}:2: train.lr = fast: expected a number")
            self.assert_mistake([*MISSING, f"{folder}/out.h5"], "/none/")

    def test_the_version_is_one_line(self):
        for arguments in (["--version"], ["train", "--version"], ["search", "--version"]):
            code, out, err = run(*arguments)
            self.assertEqual((code, err), (0, ""), arguments)
            self.assertRegex(out, r"^vixen \d+\.\d+\.\d+\n$")

    def test_what_a_command_does_not_read_is_refused_as_an_option_and_left_alone_in_a_file(self):
        self.assert_mistake([*MISSING, "x", "--train.lr", "1"], "--train.lr: vixen search does not read it, train and bench do")
        self.assert_mistake([*MISSING, "x", "--embed.chunk_rows", "1"], "--embed.chunk_rows is no key any more")
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "x.ini"
            path.write_text("[train]\nlr = 1\n[embed]\nchunk_rows = 512\n")
            code, out, err = run("search", "--config", str(path), "--print-config")
            self.assertEqual((code, err), (0, ""))
            self.assertIn(f"lr = 1  # {path}:2 (not read by search)", out)
            code, _, err = run(*MISSING, f"{folder}/out.h5", "--config", str(path))
            self.assertEqual(code, 2, err)
            self.assertEqual(err.count("\n"), 2, err)
            self.assertIn(f"{path}:4: embed.chunk_rows is ignored", err)
            path.write_text("[train]\nlearning = 1\n")
            self.assert_mistake([*MISSING, "x", "--config", str(path)], "unknown key train.learning")

    def test_alone_it_needs_no_session_folder(self):
        """Processes that start and end side by side would remove a shared one under each other."""
        with tempfile.TemporaryDirectory() as folder:
            code, _, err = run(*MISSING, f"{folder}/out.h5", OMPI_MCA_orte_tmpdir_base="/proc/none")
            self.assertEqual(code, 2, err)
            self.assertEqual(err.count("\n"), 1, err)
            self.assertIn("/none/", err)

    def test_mistakes_under_mpirun_appear_once(self):
        with tempfile.TemporaryDirectory() as folder:
            code, _, err = run(*MISSING, f"{folder}/out.h5", ranks=2)
            self.assertEqual(code, 2, err)
            self.assertEqual(err.count("vixen: "), 1, err)
            self.assertIn("/none/", err)
        code, _, err = run("tarin", ranks=2)
        self.assertEqual(code, 2, err)
        self.assertEqual(err.count("vixen: unknown command tarin"), 1, err)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])

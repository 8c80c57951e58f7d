"""Every tool with every argument that names a file: names that are undecodable, invisible or impossible are one line, shown escaped."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from conftest import TOOLS

NAMES = [
    (os.fsdecode(b"gr\xff\xc3\xb6"), "gr\\xffö"),
    ("a\nb", "a\\x0ab"),
    ("zero\u200bwidth", "zero\\u200bwidth"),
    ("\u202ertl", "\\u202ertl"),
    ("tab\there", "tab\\x09here"),
    ("x" * 300, "x" * 300),
    ("\ufeffmark", "\\ufeffmark"),
    ("-", "-"),
]
# the argument that is odd is %; the others name nothing that is there
CALLS = [
    "prepare_dataset.py --raw % --model m --out o",
    "prepare_dataset.py --raw RAW --model % --out o",
    "prepare_dataset.py --raw RAW --model MODEL --images % --out o",
    "import_official.py --dir % --model m --out o",
    "embed_images.py --raw % --out o",
    "compact_images.py --raw RAW --images % --out o",
    "add_prompts.py % --model MODEL",
    "add_prompts.py d --model %",
    "baselines.py --data %",
    "report.py --run %",
    "report.py --run RAW --row x=%",
    "report.py --run RAW --baselines %",
    "report.py --run RAW --data d --mined %",
    "split_dataset.py --data % --out o",
    "augment_grid.py --binary /bin/true --data % --model m",
    "bench/time_to_accuracy.py --binary /bin/true --set a=% --model m --out o",
    "bench/mining_study.py --binary /bin/true --set a=% --model m --out o",
    "bench_search.py --corpus % --queries %",
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name, shown", NAMES, ids=[shown[:12] for _, shown in NAMES])
def test_an_odd_name_is_shown(tools, raw, model, tmp_path, monkeypatch, call, name, shown):
    monkeypatch.chdir(tmp_path)
    (raw / "metrics.json").write_text("{}")
    words = [{"RAW": str(raw), "MODEL": str(model)}.get(word, word).replace("%", name) for word in call.split()]
    error = tools.fails(words[0], *words[1:])
    assert shown in error, error
    assert error.isprintable()


@pytest.mark.parametrize(
    "environment", [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"LC_ALL": "C.UTF-8"}, {"PYTHONIOENCODING": "latin-1"}]
)
def test_any_locale_shows_it(tmp_path, environment):
    command = [sys.executable.encode(), os.fsencode(TOOLS / "report.py"), b"--run", os.fsencode(tmp_path) + b"/gr\xff\xe2\x80\x8b"]
    result = subprocess.run(command, capture_output=True, timeout=60, env={**os.environ, **environment})
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1
    assert b"gr\\xff" in result.stderr and result.stderr.isascii()

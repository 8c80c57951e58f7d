"""No tool writes over what it reads or what vixen did not write: every tool with an output, each of its inputs, whatever lies there."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import TOOLS
from model_samples import write_folder
from PIL import Image

IMAGES = ("a.png", "b.png", "c.png")


@dataclass
class World:
    """Inputs of all tools below one folder, which no refused call may change."""

    root: Path
    raw: Path
    model: Path
    data: Path
    images: Path
    run: Path
    predictions: Path
    official: Path
    mined: Path
    grid: Path

    def snapshot(self) -> dict[str, object]:
        """Every file's bytes, links as links."""
        return {
            str(path.relative_to(self.root)): os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
            for path in sorted(self.root.rglob("*"))
            if not path.is_fifo()
        }


@pytest.fixture
def world(tools, raw, tmp_path_factory) -> World:
    root = tmp_path_factory.mktemp("world")
    world = World(
        root,
        root / "raw",
        root / "model",
        root / "data.h5",
        root / "images.h5",
        root / "run",
        root / "predictions.h5",
        root / "official",
        root / "mined.h5",
        root / "grid.toml",
    )
    shutil.move(raw, world.raw)
    (world.raw / "images").mkdir()
    for name in IMAGES:
        Image.new("RGB", (8, 8), "red").save(world.raw / "images" / name)
    write_folder(world.model)
    from vixen_tools.image_rows import write_images

    write_images(world.images, list(IMAGES), 4, iter([np.arange(12, dtype=np.float16).reshape(3, 4)]), "test", 32, "embed_images.py 0.1.0")
    tools.run("prepare_dataset.py", "--raw", world.raw, "--model", world.model, "--images", world.images, "--out", world.data)
    world.run.mkdir()
    (world.run / "metrics.json").write_text(json.dumps({"P@1": 50.0, "queries": 2, "labels": 3}))
    (world.run / "config.ini").write_text("[train]\nepochs = 1\n")
    (world.run / "metrics.jsonl").write_text('{"step": 1, "loss": 1.0}\n{"step": 2, "loss": 0.5}\n')
    with h5py.File(world.predictions, "w") as file:
        file.attrs["created_by"] = "vixen 0.1.0"
        file["indices"] = np.array([[0, 1], [1, 2]])
        file["scores"] = np.zeros((2, 2), np.float32)
    with h5py.File(world.mined, "w") as file:
        file.attrs["created_by"] = "vixen mine 0.1.0"
        file["negatives"], file["scores"] = np.array([[1], [2], [0], [-1]]), np.array([[0.5], [0.5], [0.5], [-np.inf]], np.float32)
    world.grid.write_text(
        f'data = "{world.data}"\nconfigs = ["{world.run / "config.ini"}"]\n'
        f'[[model]]\nname = "a"\npath = "{world.model}"\n[grid]\nranks = [1]\nbatch = [2]\n'
    )
    world.official.mkdir()
    for stem, rows in (("lbl", 3), ("trn", 2), ("tst", 2)):
        (world.official / f"{stem}.raw.txt").write_text("red car\n" * rows)
        if stem != "lbl":
            (world.official / f"{stem}_X_Y.txt").write_text("2 3\n0:1\n1:1\n")
    return world


@dataclass
class Tool:
    """A tool with an output: its arguments without it, its inputs (files, folders in which nothing may be put, and the one in which
    outputs may stand beside what is read)."""

    name: str
    arguments: Callable[[World], list]
    files: Callable[[World], list[Path]]
    folders: Callable[[World], list[Path]] = lambda world: []
    shared: Callable[[World], Path] | None = None
    option: str = "--out"
    works: bool = True  # within this test: without a network, a run, or a measurement
    folder: bool = False  # the output is one
    keeps_others: bool = False  # a folder in which the tool keeps folders of its own
    done: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        return f"{Path(self.name).stem}{self.option}"


TRAIN = lambda world: ["--", "--data.path", world.data, "--model.path", world.model, "--config", world.run / "config.ini"]  # noqa: E731
TOOLS_WITH_OUTPUTS = [
    Tool(
        "prepare_dataset.py",
        lambda w: ["--raw", w.raw, "--model", w.model, "--images", w.images],
        lambda w: [w.images, w.raw / "trn.json.gz", w.raw / "lbl.json", w.model / "tokenizer.json"],
        lambda w: [w.model],
        lambda w: w.raw,
    ),
    Tool(
        "import_official.py",
        lambda w: ["--dir", w.official, "--model", w.model],
        lambda w: [w.official / "trn.raw.txt", w.official / "tst_X_Y.txt", w.model / "tokenizer.json"],
        lambda w: [w.model],
        lambda w: w.official,
    ),
    Tool(
        "compact_images.py",
        lambda w: ["--raw", w.raw, "--images", w.images, "--dimensions", 2],
        lambda w: [w.images, w.raw / "trn.json.gz"],
        lambda w: [],
        lambda w: w.raw,
    ),
    Tool(
        "bench/make_xmc.py",
        lambda w: ["--words-from", w.raw, "--train", 5, "--test", 2, "--labels", 3, "--image-width", 2],
        lambda w: [w.raw / "trn.json.gz"],
        lambda w: [w.raw],
        folder=True,
    ),
    Tool("baselines.py", lambda w: ["--data", w.data], lambda w: [w.data]),
    Tool("baselines.py", lambda w: ["--data", w.data], lambda w: [w.data], option="--metrics"),
    Tool(
        "report.py",
        lambda w: ["--run", w.run, "--data", w.data, "--predictions", w.predictions, "--raw", w.raw],
        lambda w: [w.data, w.predictions, w.run / "metrics.json", w.run / "config.ini", w.run / "metrics.jsonl", w.raw / "tst.jsonl"],
        lambda w: [],
        lambda w: w.raw,
    ),
    Tool(
        "report.py",
        lambda w: ["--run", w.run, "--data", w.data, "--mined", w.mined, "--split", "train", "--raw", w.raw],
        lambda w: [w.data, w.mined, w.run / "metrics.json", w.raw / "trn.json.gz"],
        lambda w: [],
        lambda w: w.raw,
    ),
    Tool("split_dataset.py", lambda w: ["--data", w.data, "--share", 0.5], lambda w: [w.data]),
    Tool(
        "augment_grid.py",
        lambda w: ["--data", w.data, "--model", w.model],
        lambda w: [w.data, w.model / "config.json"],
        lambda w: [w.model],
        works=False,
    ),
    Tool(
        "bench/sentence_transformers_run.py",
        lambda w: ["--data", w.data, "--model", w.model, "--seconds", 1],
        lambda w: [w.data, w.model / "config.json"],
        lambda w: [w.model],
        works=False,
    ),
    Tool("bench/pecos_run.py", lambda w: ["--data", w.data], lambda w: [w.data], works=False),
    *(
        Tool(
            f"bench/{study}.py",
            lambda w: ["--binary", "/bin/false", "--model", w.model, "--set", f"a={w.data},{w.run / 'config.ini'}"],
            lambda w: [w.data, w.run / "config.ini", w.model / "config.json"],
            lambda w: [w.model],
            works=False,
            folder=True,
            keeps_others=True,
        )
        for study in ("time_to_accuracy", "mining_study")
    ),
    Tool("fetch_model.py", lambda w: [w.model], lambda w: [], lambda w: [w.model], folder=True),
    Tool(
        "bench_search.py",
        lambda w: ["--corpus", w.predictions, "--queries", w.data],
        lambda w: [w.predictions, w.data],
        option="--json",
        works=False,
    ),
    Tool(
        "bench/checkpoint_bench.py",
        lambda w: ["--binary", "/bin/false", *TRAIN(w)],
        lambda w: [w.data, w.run / "config.ini"],
        lambda w: [w.model],
        works=False,
    ),
    Tool(
        "bench/label_side.py",
        lambda w: ["--binary", "/bin/false", "--corpus", w.data, "--queries", w.data, "--ranks", 1],
        lambda w: [w.data],
        works=False,
    ),
    Tool(
        "bench/lora_step.py",
        lambda w: ["--model", w.model, "--data", w.data, "--systems", "peft"],
        lambda w: [w.data, w.model / "config.json"],
        lambda w: [w.model],
        works=False,
    ),
    Tool(
        "make_bundle.py",
        lambda w: ["--build", w.model],
        lambda w: [],
        lambda w: [w.model],
        works=False,
        folder=True,
    ),
    Tool(
        "seed_study.py",
        lambda w: ["--binary", "/bin/false", *TRAIN(w)],
        lambda w: [w.data, w.run / "config.ini"],
        lambda w: [w.model],
        works=False,
        folder=True,
        keeps_others=True,
    ),
    Tool(
        "scaling_study.py",
        lambda w: ["plan", w.grid, "--binary", "/bin/false"],
        lambda w: [w.data, w.run / "config.ini", w.grid, w.model / "config.json"],
        lambda w: [w.model],
        works=False,
        folder=True,
        keeps_others=True,
    ),
    Tool(
        "world_study.py",
        lambda w: ["--binary", "/bin/false", *TRAIN(w)],
        lambda w: [w.data, w.run / "config.ini"],
        lambda w: [w.model],
        works=False,
        folder=True,
        keeps_others=True,
    ),
]
every_tool = pytest.mark.parametrize("tool", TOOLS_WITH_OUTPUTS, ids=lambda tool: tool.title)


def call(tool: Tool, world: World, out: Path) -> list:
    words = tool.arguments(world)
    place = words.index("--") if "--" in words else len(words)
    return [*words[:place], tool.option, out, *words[place:]]


def refuse(tools, tool: Tool, world: World, out: Path, *expected: str) -> None:
    """One line with the option and what is expected, and not a byte changed."""
    before = world.snapshot()
    error = tools.fails(tool.name, *call(tool, world, out))
    assert world.snapshot() == before
    assert error.startswith(f"error: {tool.option} {out}: "), error
    for part in expected:
        assert part in error, error


def test_every_tool_with_an_output_is_here():
    """A new tool that writes must be added above."""
    from_source = {
        path.name
        for path in (*TOOLS.glob("*.py"), *TOOLS.glob("bench/*.py"))
        if '"--out"' in path.read_text() or '"--json"' in path.read_text()
    }
    through_others = {"import_official.py", "prepare_dataset.py"}  # by vixen_tools/dataset_options.py
    inside = {"make_configs.py"}  # `vixen plan --out` into a temporary folder; its own pages: test_configs.py
    assert (from_source | through_others) - inside - {"embed_images.py"} == {Path(tool.name).name for tool in TOOLS_WITH_OUTPUTS}


def test_the_program_and_the_tools_know_the_same_makers():
    from vixen_tools import outputs

    source = (TOOLS.parent / "src/commands/outputs.cpp").read_text()
    listed = re.search(r"kTools\[\] = \{(.*?)\};", source, re.DOTALL).group(1)
    assert sorted(re.findall(r'"(\w+)"', listed)) == sorted(outputs._TOOLS)
    assert {Path(tool.name).stem for tool in TOOLS_WITH_OUTPUTS} <= set(outputs._TOOLS)


@every_tool
def test_an_input_is_no_output(tools, world, tool):
    for path in tool.files(world):
        refuse(tools, tool, world, path, "give another")
        elsewhere = world.root / "elsewhere"
        elsewhere.mkdir(exist_ok=True)
        for make in (os.symlink, os.link):
            link = elsewhere / "link.h5"
            make(path, link)
            refuse(tools, tool, world, link)
            link.unlink()
        relative = world.root / "elsewhere" / ".." / path.relative_to(world.root)
        refuse(tools, tool, world, relative)


@every_tool
def test_nothing_is_put_into_an_input_or_in_place_of_its_parents(tools, world, tool):
    for path in tool.folders(world):
        refuse(tools, tool, world, path / "new", "lies in an input", str(path))
        refuse(tools, tool, world, path / "below" / "new", "lies in an input")
        refuse(tools, tool, world, path, "is an input")
        link = world.root / "link"
        link.symlink_to(path)
        refuse(tools, tool, world, link / "new", "lies in an input")
        link.unlink()
    if not tool.keeps_others:
        refuse(tools, tool, world, world.root, "holds an input")


@pytest.mark.parametrize("tool", [tool for tool in TOOLS_WITH_OUTPUTS if tool.shared], ids=lambda tool: tool.title)
def test_an_output_may_stand_beside_raw_files(tools, world, tool):
    folder = tool.shared(world)
    before = world.snapshot()
    for _ in range(2):  # the second time it replaces its own
        tools.run(tool.name, *call(tool, world, folder / "own.h5"))
    after = world.snapshot()
    assert after.pop(str((folder / "own.h5").relative_to(world.root))) and after == before
    refuse(tools, tool, world, folder / "below" / "own.h5", "lies in an input")
    (folder / "notes.txt").write_text("mine")
    refuse(tools, tool, world, folder / "notes.txt", "lies in an input")


@every_tool
def test_what_vixen_did_not_write_stays(tools, world, tool):
    foreign = world.root / "notes"
    for content in (
        b"my notes\n",
        b'{"title": "my own"}',
        b'{"P@1": 5.0}',
        b"<!doctype html><html>",
        b"\x89HDF\r\n\x1a\n",
        b"query\tlabel\n",
    ):
        foreign.write_bytes(content)
        refuse(tools, tool, world, foreign, "exists and")
    foreign.unlink()
    with h5py.File(foreign, "w") as file:
        file.attrs["created_by"] = "another program"
    refuse(tools, tool, world, foreign, "exists and")
    if not tool.keeps_others:
        folder = world.root / "thesis"
        folder.mkdir()
        (folder / "chapter.tex").write_text("years of work\n")
        refuse(tools, tool, world, folder, "exists and was not made by vixen (no .vixen.json)" if tool.folder else "is a folder")
    os.mkfifo(world.root / "pipe")
    refuse(tools, tool, world, world.root / "pipe")
    if tool.folder:
        return
    refuse(tools, tool, world, Path("/dev/null"), "is no regular file")
    link = world.root / "notes-link"
    foreign.write_bytes(b"my notes\n")
    link.symlink_to(foreign)
    refuse(tools, tool, world, link, "exists and was not made by vixen")


@every_tool
def test_where_nothing_can_be_written(tools, world, tool):
    (world.root / "file").write_text("")
    refuse(tools, tool, world, world.root / "file" / "out", "cannot write here (Not a directory)")
    refuse(tools, tool, world, world.root / ("x" * 300), "File name too long")
    refuse(tools, tool, world, Path("/proc/out"), "cannot write here")
    (world.root / "loop").symlink_to("loop")
    refuse(tools, tool, world, world.root / "loop" / "out")


@pytest.mark.parametrize("tool", [tool for tool in TOOLS_WITH_OUTPUTS if tool.works], ids=lambda tool: tool.title)
def test_what_vixen_wrote_is_replaced(tools, world, tool):
    """Also an empty file or folder, and through a link, which stays one."""
    out = world.root / "made" / "deep" / ("x" * 240)
    before = world.snapshot()
    for _ in range(2):
        tools.run(tool.name, *call(tool, world, out))
    assert out.is_dir() == tool.folder
    made = world.snapshot()
    assert {name: content for name, content in made.items() if not name.startswith("made")} == before
    assert [path.name for path in out.parent.iterdir()] == [out.name]  # nothing temporary is left
    target, link = world.root / "target", world.root / "link"
    target.mkdir() if tool.folder else target.write_text("")
    link.symlink_to(target)
    tools.run(tool.name, *call(tool, world, link))
    assert link.is_symlink() and (any(target.iterdir()) if tool.folder else target.stat().st_size)


def test_a_folder_with_something_else_in_it_is_not_replaced(tools, world):
    tool = next(tool for tool in TOOLS_WITH_OUTPUTS if tool.name == "fetch_model.py")
    out = world.root / "out"
    tools.run(tool.name, *call(tool, world, out))
    for name in ("notes.txt", ".hidden", "folder/notes.txt"):
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text("mine\n")
        refuse(tools, tool, world, out, f"holds {name.split('/')[0]}, which vixen did not write")
        (out / name).unlink()
    refuse(tools, tool, world, out, "holds folder, which vixen did not write")
    (out / "folder").rmdir()
    for marker in ("{", "[]", "{}", '{"created_by": "me", "files": []}', '{"created_by": "fetch_model.py 0.1.0", "files": [1]}'):
        (out / ".vixen.json").write_text(marker)
        refuse(tools, tool, world, out, "was not made by vixen (no .vixen.json)")


def test_two_outputs_are_two(tools, world):
    out = world.root / "both"
    error = tools.fails("baselines.py", "--data", world.data, "--out", out, "--metrics", out)
    assert error == f"error: --metrics {out}: is the output --out {out} as well: give another --metrics"


def test_what_came_meanwhile_is_not_replaced(tmp_path):
    from vixen_tools.errors import UserError
    from vixen_tools.files import publish, work_folder

    out = tmp_path / "out"
    with pytest.raises(UserError, match="was not made by vixen"), work_folder(out) as work:  # noqa: PT012
        (work / "new").write_text("new")
        out.write_text("somebody's")
        publish(work / "new", out)
    with pytest.raises(UserError, match="exists and is no folder"), work_folder(out) as work:  # noqa: PT012
        (work / "new").mkdir()
        publish(work / "new", out)
    assert out.read_text() == "somebody's"


def test_room_is_asked_for_before_the_work(tmp_path):
    from vixen_tools.errors import UserError
    from vixen_tools.outputs import claim

    assert claim(tmp_path / "a" / "out", {}, bytes_needed=1000) == tmp_path / "a" / "out"
    with pytest.raises(UserError, match=r"--out .*/a/out: needs about 1e\+09 GB, its file system has [\d.e+]+ GB free"):
        claim(tmp_path / "a" / "out", {}, bytes_needed=10**18)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    "content, expected",
    [
        (b"", True),
        (b"query\tquery_text\trank\tlabel\tlabel_text\tscore\n0\ta", True),
        (b'{"P@1": 1.5, "queries": 2, "labels": 3}', True),
        (b'{"P@1": 1.5, "queries": 2, "labels": 3, "name": "x"}', False),
        (b'{"P@1": true, "queries": 2, "labels": 3}', False),
        (b'{"created_by": "vixen 0.1.0"}', True),
        (b'{"created_by": "baselines.py 0.1.0"}', True),
        (b'{"created_by": "vixenish"}', False),
        (b'{"created_by": "train.py 0.1.0"}', False),
        (b'{"created_by": "report.py of mine"}', False),
        (b'{"created_by": 5}', False),
        (b'{"a":' * 100000, False),
        (b'<!doctype html>\n<html><meta name="generator" content="vixen 0.1.0">', True),
        (b'<p>see <meta name="generator" content="vixen 0.1.0">', False),
        (b"\n", False),
        (b'\xff{"created_by": "vixen 1"}', False),
    ],
)
def test_what_counts_as_vixen_s(tmp_path, content, expected):
    from vixen_tools.outputs import made_by_vixen

    (tmp_path / "file").write_bytes(content)
    assert made_by_vixen(tmp_path / "file") is expected


def test_a_data_set_is_changed_in_its_place_through_a_link(tools, world):
    link = world.root / "link.h5"
    link.symlink_to(world.data)
    tools.run("add_prompts.py", link, "--model", world.model, "red car")
    assert link.is_symlink() and not world.data.is_symlink()
    with h5py.File(world.data) as file:
        assert len(file["prompts/texts/offsets"]) == 2
    before = world.snapshot()
    assert "attributes format and version are" in tools.fails("add_prompts.py", world.predictions, "--model", world.model, "red")
    assert "lies in an input" in tools.fails("add_prompts.py", world.model / "tokenizer.json", "--model", world.model, "red")
    assert world.snapshot() == before

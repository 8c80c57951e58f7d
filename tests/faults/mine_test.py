"""vixen mine: the same bytes for any number of ranks and parts, going on after kills and on full disks, and what it refuses. What the lists
hold is compared with NumPy in tests/tools/test_mine.py."""

import gzip
import json
import resource
import shutil
import signal
import subprocess
import time
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import TinyRun, fill, kill_ranks, prepare, ranks_of
from make_tiny_run import WORDS, write_raw
from refusals import assert_refused, damaged, with_pictures

N_TRAIN, K = 3000, 4
RULES = {"--mining.depth": 20, "--mine.k": K, "--mining.skip_first": 1, "--mining.absolute_margin": 0.002, "--data.split": "train"}
PARTS = ["--mine.part_queries", 512]  # six


class Files(TinyRun):
    """data.h5 with queries for several parts; corpus.h5, some of whose labels read like those of data.h5."""

    def __init__(self, folder: Path, tiny: TinyRun):
        super().__init__(folder)
        self.model = tiny.model
        write_raw(folder / "raw", N_TRAIN, 32)
        prepare(folder / "raw", self.model, self.data)
        write_raw(folder / "corpus", 8, 8)
        with gzip.open(folder / "raw/lbl.json.gz", "rt") as file:
            texts = [json.loads(line)["title"] for line in file][::-2]
        texts += [f"{a} {b}" for a, b in zip(WORDS, np.roll(WORDS, 3), strict=True)] + texts[:3]  # three of them twice
        with gzip.open(folder / "corpus/lbl.json.gz", "wt") as file:
            file.writelines(json.dumps({"uid": str(i), "title": text, "content": ""}) + "\n" for i, text in enumerate(texts))
        self.corpus = prepare(folder / "corpus", self.model, folder / "corpus.h5")

    def options(self, out: Path, *more: object) -> list[object]:
        settings = {"--data.path": self.data, "--model.path": self.model, "--threads": 1, **RULES}
        settings |= {str(name): value for name, value in zip(more[::2], more[1::2], strict=True)} | {"--out": out}
        return [word for setting in settings.items() for word in setting]

    def mine(self, out: Path, *more: object, ranks: int = 0) -> str:
        done = self.run("mine", *self.options(out, *more), ranks=ranks, timeout=200)
        assert done.returncode == 0, done.stderr
        assert not leftovers(out), "parts are removed"
        return done.stderr

    def start(self, out: Path, *more: object, ranks: int = 0) -> subprocess.Popen:
        command = self.command("mine", *self.options(out, *PARTS, *more), ranks=ranks)
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def leftovers(out: Path) -> list[str]:
    return sorted(path.name for path in out.parent.glob(f"{out.name}.*") if ".part" in path.name or "partial" in path.name)


def wait_for(path: Path, process: subprocess.Popen) -> None:
    deadline = time.time() + 60
    while not path.exists() and process.poll() is None and time.time() < deadline:
        time.sleep(0.0005)


@pytest.fixture(scope="module")
def files(tiny: TinyRun, tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("mine"), tiny)


@pytest.fixture(scope="module")
def straight(files: Files) -> Path:
    """Mined in one go."""
    files.mine(files.folder / "straight.h5")
    return files.folder / "straight.h5"


@pytest.mark.parametrize("form", ["hdf5", "triplet", "n-tuple"])
@pytest.mark.parametrize("corpus", [False, True])
def test_ranks_and_parts_change_no_byte(files, tmp_path, form, corpus):
    options = ["--mine.format", form, *(["--mine.corpus", files.corpus] if corpus else [])]
    contents = []
    for ranks, queries in ((0, 65536), (2, 512), (3, 1000)):
        out = tmp_path / f"{ranks}" / "mined"
        out.parent.mkdir()
        said = files.mine(out, *options, "--mine.part_queries", queries, ranks=ranks)
        assert f"for {N_TRAIN} queries" in said
        contents.append(out.read_bytes())
    assert contents[1] == contents[0] and contents[2] == contents[0]


def kill_after(files: Files, out: Path, part: int, *more: object, ranks: int = 0) -> None:
    """A command all of whose ranks were killed when they had written this part."""
    path = out.with_name(f"{out.name}.part-{part:05}")
    for _ in range(20):  # a kill that comes too late finds no part
        process = files.start(out, *more, ranks=ranks)
        wait_for(path, process)
        kill_ranks(out)
        process.communicate(timeout=60)
        if not out.exists():
            break
        out.unlink()
    assert path.exists() and not out.exists() and not ranks_of(out)


@pytest.mark.parametrize("ranks, then", [(0, 3), (3, 2)])
def test_a_killed_command_goes_on(files, straight, tmp_path, ranks, then):
    out = tmp_path / "killed.h5"
    kill_after(files, out, 2, ranks=ranks)
    said = files.mine(out, *PARTS, ranks=then)
    assert "going on from" in said and f"for {N_TRAIN} queries" in said
    assert out.read_bytes() == straight.read_bytes()


def test_a_command_that_is_asked_to_stop_goes_on(files, straight, tmp_path):
    """USR1, as a job gets it before its time is over: exit 75, and the parts that are there are not made again."""
    out = tmp_path / "stopped.h5"
    for _ in range(20):  # one that comes too late finds nothing to do
        process = files.start(out)
        wait_for(out.with_name(f"{out.name}.part-00001"), process)
        process.send_signal(signal.SIGUSR1)
        _, err = process.communicate(timeout=60)
        if process.returncode == 75:
            break
        out.unlink()
    assert process.returncode == 75 and "stopped on request with" in err and "of 6 parts made" in err, err
    said = files.mine(out, *PARTS)
    assert "going on from" in said
    assert out.read_bytes() == straight.read_bytes()


def test_parts_of_something_else_are_not_taken(files, straight, tmp_path):
    kill_after(files, tmp_path / "killed.h5", 2)
    part = (tmp_path / "killed.h5.part-00001").read_bytes()
    other = tmp_path / "other.h5"

    def leave_part() -> None:
        (tmp_path / "other.h5.part-00001").write_bytes(part)

    leave_part()
    assert "going on" in files.mine(other, *PARTS)
    retrained = Path(shutil.copytree(files.model, tmp_path / "retrained"))
    weights = bytearray((retrained / "model.safetensors").read_bytes())
    weights[-2] ^= 1
    (retrained / "model.safetensors").write_bytes(weights)
    for more in (["--mine.k", 2], ["--mining.skip_first", 2], ["--mine.corpus", files.corpus], ["--model.path", retrained]):
        leave_part()
        assert "going on" not in files.mine(other, *PARTS, *more), more
    leave_part()
    files.mine(other)  # in another division: removed all the same
    assert other.read_bytes() == straight.read_bytes()
    # A part that is somebody else's file is not written over.
    for foreign in (b"mine", part[:1000]):
        (tmp_path / "other.h5.part-00001").write_bytes(foreign)
        result = files.run("mine", *files.options(other, *PARTS))
        assert_refused(result, "other.h5.part-00001", "not made by vixen", at_work=True)
        assert (tmp_path / "other.h5.part-00001").read_bytes() == foreign and other.read_bytes() == straight.read_bytes()


@pytest.mark.parametrize("form", ["hdf5", "triplet"])
def test_a_file_that_may_not_grow(files, straight, tmp_path, form):
    """Where a part has no room nothing stays; where the whole has none the parts stay, and the next command joins them."""
    out = tmp_path / "mined"
    if form == "hdf5":
        out.write_bytes(straight.read_bytes())  # of an earlier command: stays what it was
    before = out.read_bytes() if out.exists() else None
    for limit, parts in ((20_000, 0), (120_000, 6)):
        command = files.command("mine", *files.options(out, *PARTS, "--mine.format", form))
        grow_no_more = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (limit, limit))
        process = subprocess.run(command, capture_output=True, text=True, preexec_fn=grow_no_more)
        assert_refused(process, str(out), "File too large", at_work=True)
        assert len(leftovers(out)) == parts and not list(tmp_path.glob("*partial*"))
        assert (out.read_bytes() if out.exists() else None) == before
    assert "going on from 6 of 6" in files.mine(out, *PARTS, "--mine.format", form)
    if form == "hdf5":
        assert out.read_bytes() == straight.read_bytes()
    assert files.run("inspect", out).returncode == 0


def test_a_disk_that_others_fill(files, straight, small_disk):
    disk = small_disk("3m")
    out = disk / "m.h5"
    for _ in range(20):  # the command may be faster
        process = files.start(out)
        wait_for(disk / "m.h5.part-00001", process)
        fill(disk)
        _, err = process.communicate(timeout=100)
        if not out.exists():
            break
        (disk / "filler").unlink()
        out.unlink()
    assert process.returncode == 2, err
    complaint = [line for line in err.splitlines() if "No space left" in line]
    assert len(complaint) == 1 and str(out) in complaint[0], err
    assert leftovers(out) and not out.exists() and not list(disk.glob("*partial*"))
    (disk / "filler").unlink()
    assert "going on from" in files.mine(out, *PARTS)
    assert out.read_bytes() == straight.read_bytes()


def test_an_approximate_search_says_what_it_misses(files, tmp_path):
    out = tmp_path / "m.h5"
    search = ["--search.method", "faiss_ivf_pq", "--search.pq_bytes", 4, "--search.pq_refine", 0]
    said = files.mine(out, *search, *PARTS, ranks=2)
    assert "recall of the exact top 20:" in said
    with h5py.File(out) as file:
        found = json.loads(file.attrs["labels_found"])
    assert 0 < found["recall"] <= 1 and found["recall_queries"] == N_TRAIN
    shown = files.run("inspect", out).stdout
    assert f"{100 * found['recall']:.2f}% of the exact one's ({N_TRAIN:,} queries compared)" in shown
    # Its answers hang on the number of ranks, and so do its parts.
    out.unlink()
    kill_after(files, out, 1, *search)
    assert "going on" not in files.mine(out, *search, *PARTS, ranks=2)


def test_what_is_refused(files, tmp_path):
    out = tmp_path / "m.h5"
    base = ["mine", "--data.path", files.data, "--model.path", files.model]

    def refused(*options: object, to: Path = out, words: tuple[str, ...]) -> None:
        assert_refused(files.run(*base, *options, "--out", to), *words)
        assert list(tmp_path.glob("m.h5*")) == []

    refused("--mining.against", "prototypes", words=("mining.against = prototypes", "--run.dir"))
    refused("--mining.skip_first", 100, words=("mining.skip_first = 100", "less than mining.depth = 100"))
    refused("--mine.k", 101, words=("mine.k = 101", "at most mining.depth = 100"))
    refused("--mine.k", 0, "--mine.format", "n-tuple", words=("mine.k = 0", "mine.format = n-tuple"))
    refused("--mine.corpus", files.corpus, to=files.corpus, words=("corpus.h5", "--mine.corpus"))
    refused(to=files.data, words=("data.h5", "--data.path"))
    refused("--mine.corpus", tmp_path / "none.h5", words=("none.h5",))
    refused("--mine.corpus", files.model, words=(str(files.model),))

    for change, words in (
        (lambda file: file.attrs.__setitem__("tokenizer_sha256", "0" * 64), ("000000000000", str(files.data))),
        (lambda file: file.__delitem__("label"), ("label",)),
        (lambda file: file.attrs.__setitem__("format", "vixen-images"), ("vixen-images",)),
    ):
        strange = damaged(files.corpus, tmp_path, change)
        refused("--mine.corpus", strange, words=(str(strange), *words))
    longer = prepare(files.folder / "corpus", files.model, tmp_path / "longer.h5", 18)
    refused("--mine.corpus", longer, words=(str(longer), "18 tokens", "16", str(files.data)))
    pictures = {width: with_pictures(files.corpus, tmp_path / f"{width}.h5", np.ones((16, width), np.float16)) for width in (8, 12)}
    refused("--mine.corpus", pictures[8], words=(str(pictures[8]), "8 wide", "none"))
    result = files.run("mine", "--data.path", pictures[12], "--model.path", files.model, "--mine.corpus", pictures[8], "--out", out)
    assert_refused(result, str(pictures[8]), "8 wide", "12")

    run = tmp_path / "run"
    ngame = {"train.epochs": 0, "train.method": "ngame"}
    assert files.run("train", *files.train_options(run, **ngame), timeout=200).returncode == 0
    of_run = ["mine", "--run.dir", run, "--mining.against", "prototypes", "--out", out]
    assert_refused(files.run(*of_run), str(run), "ngame")
    assert_refused(files.run(*of_run, "--mine.corpus", files.corpus), "mine.corpus", "prototypes")

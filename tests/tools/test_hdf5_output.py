"""Writing HDF5 to the end of what the file system takes: one line and no crash of the library, wherever the end falls."""

from __future__ import annotations

import subprocess
import sys

import h5py
import numpy as np
import pytest
from conftest import TOOLS


def test_it_holds_what_h5py_s_own_file_holds(tmp_path):
    from vixen_tools.hdf5_output import hdf5_output

    def fill(file):
        for i in range(3):
            file.create_dataset(f"group{i}/data", data=np.arange(1000, dtype=np.float32))
        file.attrs["name"] = "größe"

    with h5py.File(tmp_path / "plain.h5", "w", libver=("earliest", "v108"), alignment_threshold=1, alignment_interval=64) as file:
        fill(file)
    with hdf5_output(tmp_path / "ours.h5", "w") as file:
        fill(file)
    with h5py.File(tmp_path / "ours.h5") as ours, h5py.File(tmp_path / "plain.h5") as plain:
        assert ours.attrs["name"] == plain.attrs["name"] and list(ours) == list(plain)
        for name in plain:
            assert (ours[name]["data"][:] == plain[name]["data"][:]).all() and ours[name]["data"].id.get_offset() % 64 == 0
            assert ours[name]["data"].chunks is None
    assert (tmp_path / "ours.h5").stat().st_size < 1.2 * (tmp_path / "plain.h5").stat().st_size
    with hdf5_output(tmp_path / "ours.h5", "r+") as file:
        del file["group1"]
        file["more"] = np.ones(5)
    with h5py.File(tmp_path / "ours.h5") as file:
        assert sorted(file) == ["group0", "group2", "more"] and file["more"].id.get_offset() % 64 == 0


def test_metadata_that_could_not_be_written_is_not_read_back(tmp_path):
    """HDF5 evicts groups while it goes on, and finds them damaged where the write was refused."""
    code = f"""
import resource, signal, sys
sys.path.insert(0, {str(TOOLS)!r})
from pathlib import Path
from vixen_tools.hdf5_output import hdf5_output
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50000, 50000))
try:
    with hdf5_output(Path({str(tmp_path / "x.h5")!r}), "w") as file:
        for i in range(3000):
            file.create_group(str(i))
except OSError as error:
    print(error.strerror)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stdout, result.stderr) == (0, "File too large\n", "")


@pytest.mark.parametrize("kilobytes", [1, 4, 8, 9, 16])
def test_a_data_set_that_cannot_be_written_whole(raw, model, tmp_path, kilobytes):
    """Where the limit falls into the spools, the values, or what HDF5 writes when it closes."""
    command = [sys.executable, TOOLS / "prepare_dataset.py", "--raw", raw, "--model", model, "--out", tmp_path / "out/data.h5"]
    result = subprocess.run(
        ["bash", "-c", f'ulimit -f {kilobytes}; exec "$@"', "bash", *map(str, command)], capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 2, result.stderr
    assert result.stderr.splitlines()[-1] == f"error: {tmp_path}/out/data.h5: cannot be written: file too large"
    assert "Traceback" not in result.stderr and "ignored" not in result.stderr
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("mode", ["w", "r+"])
@pytest.mark.parametrize("kilobytes", [2, 8, 20, 40])
def test_a_file_of_many_parts(tmp_path, mode, kilobytes):
    code = (
        f"import sys; sys.path.insert(0, {str(TOOLS)!r})\nfrom pathlib import Path\nimport numpy\nfrom vixen_tools.errors import *\n"
        "from vixen_tools.hdf5_output import hdf5_output\ndef main():\n    out = Path(sys.argv[1])\n"
        "    with writing(out), hdf5_output(out, sys.argv[2]) as file:\n"
        "        for i in range(200):\n            file.create_dataset(f'group{i}/part', data=numpy.zeros(40))\nrun_tool(main)"
    )
    out = tmp_path / "out.h5"
    h5py.File(out, "w").close()
    result = subprocess.run(
        ["bash", "-c", f'ulimit -f {kilobytes}; exec "$@"', "bash", sys.executable, "-c", code, str(out), mode],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (result.returncode, result.stderr) == (2, f"error: {out}: cannot be written: file too large\n")

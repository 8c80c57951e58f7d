#!/usr/bin/env python3
"""Converts the loss fixtures made with the official ViXML code (*.npz) into tests/parity/goldens/loss_*.safetensors.

    .venv/bin/python tests/parity/convert_loss_goldens.py FOLDER_OF_NPZ

Kept: inputs, draws, and for each term the value and gradients of the official code in float64 (f64_) and of the
specification's rendering with tie_gradient = zero (spec64_). float64 stays float64.
"""

import argparse
import pathlib

import numpy as np
from safetensors.numpy import save_file


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent / "goldens")
    args = parser.parse_args()
    for source in sorted(args.folder.glob("case*.npz")):
        with np.load(source) as arrays:
            kept = {
                n: np.ascontiguousarray(a)
                for n, a in arrays.items()
                if n in ("q", "u", "z", "Y") or n.startswith(("pos_", "f64_", "spec64_"))
            }
        target = args.out / f"loss_{source.stem}.safetensors"
        save_file(kept, target)
        print(f"{target.name}: {len(kept)} arrays, {target.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()

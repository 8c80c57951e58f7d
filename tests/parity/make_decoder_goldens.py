#!/usr/bin/env python3
"""Writes the decoders' part of tests/parity/goldens: what transformers and PEFT compute, for the C++ parity tests.

    .venv/bin/python tests/parity/make_decoder_goldens.py [--smollm2 FOLDER]

FOLDER is SmolLM2-135M-Instruct as tools/fetch_model.py writes it (bf16); without it that golden is left as it is. Only ids
and embeddings of it are stored, not the model.
"""

import argparse
import copy
import pathlib
import shutil

import peft
import torch
import transformers
from golden_tools import (
    IMAGE_WIDTH,
    TEXTS,
    Sequence,
    adapted,
    double_means_double,
    embed,
    full_step,
    pack,
    random_sequences,
    randomise,
    without_peft,
    write,
)

HERE = pathlib.Path(__file__).parent
ALL_MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
PREFIX, IMAGE_PREFIX, CLOSING = [5, 9, 7], [11, 6], [0]  # the tiny models' template
LLAMA3_SCALING = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}  # of 4 pairs of columns 1 stays, 2 are mixed, 1 is stretched
SHARED = {"max_position_embeddings": 64, "attn_implementation": "eager", "bos_token_id": None, "eos_token_id": None, "pad_token_id": None}

#: name: (configuration, adapter or None, what make_decoder() and steps() do with it)
MODELS = {
    "tiny_qwen2": (
        transformers.Qwen2Config(
            vocab_size=53,
            hidden_size=36,
            num_hidden_layers=2,
            num_attention_heads=6,
            num_key_value_heads=2,
            intermediate_size=52,
            tie_word_embeddings=True,
            rms_norm_eps=1e-6,
            **SHARED,
        ),
        {"r": 3, "lora_alpha": 12, "use_rslora": True, "target_modules": ALL_MODULES},
    ),
    "tiny_qwen2_untied": (
        transformers.Qwen2Config(
            vocab_size=61,
            hidden_size=20,
            num_hidden_layers=3,
            num_attention_heads=2,
            num_key_value_heads=1,
            intermediate_size=36,
            tie_word_embeddings=False,
            rms_norm_eps=1e-5,
            **SHARED,
        ),
        None,
    ),
    "tiny_llama3": (
        transformers.LlamaConfig(
            vocab_size=47,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            intermediate_size=44,
            tie_word_embeddings=True,
            rms_norm_eps=1e-5,
            rope_parameters=LLAMA3_SCALING,
            **SHARED,
        ),
        {"r": 4, "lora_alpha": 8, "use_rslora": True, "target_modules": ALL_MODULES},
    ),
    "tiny_qwen3": (
        transformers.Qwen3Config(
            vocab_size=59,
            hidden_size=30,
            num_hidden_layers=2,
            num_attention_heads=5,
            num_key_value_heads=1,
            head_dim=8,
            intermediate_size=40,
            tie_word_embeddings=True,
            rms_norm_eps=1e-6,
            **SHARED,
        ),
        {"r": 2, "lora_alpha": 6, "use_rslora": True, "target_modules": ALL_MODULES},
    ),
    "tiny_mistral": (
        transformers.MistralConfig(
            vocab_size=49,
            hidden_size=28,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=10,
            intermediate_size=48,
            tie_word_embeddings=False,
            rms_norm_eps=1e-5,
            sliding_window=48,
            **SHARED,
        ),
        {"r": 4, "lora_alpha": 8, "use_rslora": False, "target_modules": ["q_proj", "v_proj"]},
    ),
    "tiny_smollm": (
        transformers.LlamaConfig(
            vocab_size=51,
            hidden_size=24,
            num_hidden_layers=3,
            num_attention_heads=3,
            num_key_value_heads=1,
            intermediate_size=40,
            tie_word_embeddings=True,
            rms_norm_eps=1e-5,
            rope_parameters={"rope_type": "default", "rope_theta": 100000.0},
            **SHARED,
        ),
        {"r": 4, "lora_alpha": 16, "use_rslora": True, "target_modules": ["q_proj", "o_proj", "up_proj", "down_proj"]},
    ),
}
SHARDED = "tiny_qwen2_untied"  # several files and an index
BARE = "tiny_qwen3"  # saved as the model without head: names without "model.", as Qwen3-Embedding's
CAUSAL_ADAPTER = "tiny_smollm"  # its adapter was trained under a head: names with one more "model."
STEPS: dict[str, tuple[str, str, dict]] = {  # golden: model, what is trained, pooling and mask
    "tiny_qwen2_lora_step": ("tiny_qwen2", "adapter", {}),
    "tiny_qwen2_full_step": ("tiny_qwen2", "all", {}),
    "tiny_llama3_lora_step": ("tiny_llama3", "adapter", {}),
    "tiny_qwen3_lora_step": ("tiny_qwen3", "adapter", {}),
    "tiny_qwen3_full_step": ("tiny_qwen3", "all", {}),
    "tiny_mistral_lora_last_step": ("tiny_mistral", "adapter", {"pooling": "last"}),
    "tiny_smollm_lora_bidirectional_step": ("tiny_smollm", "adapter", {"bidirectional": True}),
}


def lay_out(ids, images, prefix=PREFIX, image_prefix=IMAGE_PREFIX, closing=CLOSING):
    """docs/algorithm.md section 2: [text prefix] text [image prefix][images] [closing]."""
    prefix, image_prefix, closing = (torch.tensor(part, dtype=torch.int64) for part in (prefix, image_prefix, closing))
    n = len(images)
    parts = [prefix, ids] + ([image_prefix, torch.zeros(n, dtype=torch.int64)] if n else []) + [closing]
    first = len(prefix) + len(ids) + len(image_prefix)
    return Sequence(torch.cat(parts), images, torch.arange(first, first + n))


def store_names(gradients):
    """The names of transformers and PEFT -> vixen's: q|k|v and gate|up are one parameter, their adapters' A are stacked too."""
    plain = without_peft(gradients)
    out = {}
    for name, value in plain.items():
        for parts, ours in ((("q_proj", "k_proj", "v_proj"), "qkv_proj"), (("gate_proj", "up_proj"), "gate_up_proj")):
            part = next((p for p in parts if f".{p}." in name), None)
            if part is None or "lora_B" in name:
                continue
            siblings = [name.replace(part, p) for p in parts]
            out[name.replace(part, ours)] = torch.cat([plain[s] for s in siblings if s in plain])
            break
        else:
            out[name] = value
    return out


def first_layers(model, count):
    cut = copy.deepcopy(model)
    cut.layers = cut.layers[:count]
    cut.config.num_hidden_layers = count
    return cut


def save_adapter(wrapped, settings, causal, folder):
    """The PEFT folder; with `causal`, of an adapter on that model with its head."""
    if causal is not None:
        weights = {n.replace("base_model.model.", "base_model.model.model."): v for n, v in peft.get_peft_model_state_dict(wrapped).items()}
        wrapped = peft.get_peft_model(copy.deepcopy(causal), peft.LoraConfig(task_type="CAUSAL_LM", **settings))
        result = peft.set_peft_model_state_dict(wrapped, weights)
        assert not result.unexpected_keys
    wrapped.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)


def tiny_goldens(out, name, seed):
    generator = torch.Generator().manual_seed(seed)
    config, settings = MODELS[name]
    causal = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    randomise(causal, generator)
    model = causal.model
    projection = torch.nn.Linear(IMAGE_WIDTH, config.hidden_size)
    randomise(projection, generator)
    folder = out / name
    shutil.rmtree(folder, ignore_errors=True)
    (model if name == BARE else causal).save_pretrained(folder, max_shard_size="20KB" if name == SHARDED else "1GB")
    (folder / "generation_config.json").unlink(missing_ok=True)
    write(folder / "image_projection.safetensors", {f"image_projection.{n}": p.detach() for n, p in projection.named_parameters()})

    sequences = random_sequences(18, config.vocab_size, generator, lay_out=lay_out)

    def double(model, **options):
        return embed(model, projection, sequences, torch.float64, **options)

    golden = pack(sequences) | {
        "float64": double(model),
        "float32": embed(model, projection, sequences, torch.float32),
        "last": double(model, pooling="last"),
        "bidirectional": double(model, bidirectional=True),
        "first_layer": double(first_layers(model, 1)),
    }
    wrapped = None
    if settings:
        wrapped = adapted(model, settings, generator)
        save_adapter(wrapped, settings, causal if name == CAUSAL_ADAPTER else None, folder / "adapter")
        golden["adapter"] = double(wrapped)
    write(out / f"{name}_embeddings.safetensors", golden)

    for step, (of, trained, options) in STEPS.items():
        if of != name:
            continue
        heads = 3 if config.hidden_size % 3 == 0 else 4
        layer = torch.nn.TransformerEncoderLayer(config.hidden_size, heads, 20, 0.1, "gelu", batch_first=True)
        randomise(layer, generator)
        sequences = random_sequences(40, config.vocab_size, generator, longest=9, lay_out=lay_out)
        result = full_step(wrapped if trained == "adapter" else model, projection, layer, sequences, generator, store_names, **options)
        write(out / f"{step}.safetensors", result | {"prototype_heads": torch.tensor(heads)})


def smollm2_goldens(out, folder):
    """SmolLM2-135M, all 30 layers: ten of the TEXTS in the paper's template, every other one with 1 to 3 pictures."""
    generator = torch.Generator().manual_seed(29)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    projection = torch.nn.Linear(IMAGE_WIDTH, model.config.hidden_size)
    projection.weight.data = 0.02 * torch.randn(projection.weight.shape, generator=generator)
    projection.bias.data = 0.02 * torch.randn(projection.bias.shape, generator=generator)
    prompt = [tokenizer(text)["input_ids"] for text in ("This product text", "and its image", "<|endoftext|>")]
    sequences = [
        lay_out(
            torch.tensor(tokenizer(text)["input_ids"]), torch.randn((i % 2 * (1 + i // 2 % 3), IMAGE_WIDTH), generator=generator), *prompt
        )
        for i, text in enumerate(TEXTS[:10])
    ]
    write(
        out / "smollm2_embeddings.safetensors",
        pack(sequences)
        | {f"image_projection.{n}": p.detach() for n, p in projection.named_parameters()}
        | {
            "float64": embed(model, projection, sequences, torch.float64),
            "float32": embed(model, projection, sequences, torch.float32),
            "last": embed(model, projection, sequences, torch.float64, pooling="last"),
            "first_layers": embed(first_layers(model, 6), projection, sequences, torch.float64),
        },
    )


def check_patches():
    """In float32 nothing may change, and a causal decoder must not see ahead where a bidirectional one does."""
    config = MODELS["tiny_qwen3"][0]
    model = transformers.AutoModel.from_config(config, attn_implementation="eager").eval()
    randomise(model, torch.Generator().manual_seed(1))
    rows = torch.randn((1, 7, config.hidden_size), generator=torch.Generator().manual_seed(2))
    changed = rows.clone()
    changed[0, -1] += 1
    with torch.no_grad():
        plain = model(inputs_embeds=rows).last_hidden_state
        everything = torch.zeros((1, 1, 7, 7))
        with double_means_double():
            assert torch.equal(plain, model(inputs_embeds=rows).last_hidden_state)
            assert torch.equal(plain[0, :-1], model(inputs_embeds=changed).last_hidden_state[0, :-1])
            both = [model(inputs_embeds=x, attention_mask=everything).last_hidden_state[0, 0] for x in (rows, changed)]
            assert (both[0] - both[1]).abs().max() > 1e-3


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "goldens")
    parser.add_argument("--smollm2", type=pathlib.Path, help="folder of SmolLM2-135M-Instruct")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    transformers.utils.logging.disable_progress_bar()
    check_patches()
    with double_means_double():
        for seed, name in enumerate(MODELS):
            tiny_goldens(options.out, name, 100 + seed)
        if options.smollm2:
            smollm2_goldens(options.out, options.smollm2)
    sizes = {f: f.stat().st_size for f in options.out.rglob("*") if f.is_file()}
    ours = sum(size for f, size in sizes.items() if str(f.relative_to(options.out)).startswith((*MODELS, "smollm2")))
    print(f"{options.out}: {ours / 1e6:.2f} MB of decoders, {sum(sizes.values()) / 1e6:.2f} MB altogether")


if __name__ == "__main__":
    main()

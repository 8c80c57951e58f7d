"""What the scripts that write parity goldens share: random models and sequences, packing, a whole training step."""

import contextlib
import copy
import importlib
import itertools
import math
import pathlib
import sys

import peft
import torch
import transformers
from safetensors.torch import save_file
from torch.nn import functional as F

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
from vixen_tools.rendering import Sequence, embed_sequence, prime_loss, prototypes

IMAGE_WIDTH = 20

TEXTS = [
    "blue folder with a green arrow",
    "home",
    "printer error warning sign",
    "a magnifying glass over a document",
    "weather showers scattered at night",
    "battery almost empty, plug in the charger",
    "USB stick",
    "save file as",
    "musical notes on a red disc",
    "accessibility: high contrast desktop",
    "e-mail message unread mark",
    "calendar 31",
    "network wireless signal excellent encrypted",
    "go to the previous page of the history",
    "smiling face with sunglasses",
    "text editor showing source code in several colours; a pencil lies across the lower right corner of the page",
]


def randomise(module, generator):
    """Values large enough that a wrong bias, norm weight or type embedding shows."""
    for name, parameter in module.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() == 1:
            parameter.data = (1 + 0.2 * noise) if "norm" in name.lower() and name.endswith("weight") else 0.2 * noise
        elif "embed" in name:
            parameter.data = 0.7 * noise
        else:
            parameter.data = noise / math.sqrt(parameter.shape[1])


def images_first(ids, images):
    """The sequence of an encoder: [images][tokens]."""
    n = len(images)
    return Sequence(torch.cat([torch.zeros(n, dtype=torch.int64), ids]), images, torch.arange(n))


def random_sequences(count, vocabulary, generator, longest=17, lay_out=images_first):
    """Sequences of 1 to `longest` tokens with 0 to 3 pictures; lay_out(ids, images) makes a Sequence of them."""
    sequences = []
    for i in range(count):
        length = 1 + int(torch.randint(longest, (), generator=generator)) if i % 5 else [1, 2, longest, 3][i // 5 % 4]
        n_images = [0, 1, 0, 2, 0, 3][i % 6]
        ids = torch.randint(1, vocabulary, (length,), generator=generator)
        sequences.append(lay_out(ids, torch.randn((n_images, IMAGE_WIDTH), generator=generator)))
    return sequences


def pack(sequences):
    """The fields of vixen's PackedBatch."""
    lengths = torch.tensor([0] + [len(s.tokens) for s in sequences])
    starts = lengths.cumsum(0)
    return {
        "batch.tokens": torch.cat([s.tokens for s in sequences]),
        "batch.position_ids": torch.cat([torch.arange(len(s.tokens)) for s in sequences]),
        "batch.cu_seqlens": starts.to(torch.int32),
        "batch.image_embeddings": torch.cat([s.images for s in sequences]),
        "batch.image_positions": torch.cat([start + s.places for start, s in zip(starts[:-1], sequences, strict=True)]),
        "batch.sequence_keys": torch.arange(len(sequences)),
    }


def unpack(golden):
    """The sequences of a golden's packed batch."""
    ends, positions = golden["batch.cu_seqlens"].tolist(), golden["batch.image_positions"]
    sequences = []
    for begin, end in itertools.pairwise(ends):
        rows = ((positions >= begin) & (positions < end)).nonzero()[:, 0]
        sequences.append(Sequence(golden["batch.tokens"][begin:end], golden["batch.image_embeddings"][rows], positions[rows] - begin))
    return sequences


@contextlib.contextmanager
def double_means_double():
    """transformers computes norms and the softmax in float32 whatever the model's dtype; here float64 stays float64.

    Angles of the rotary positions are float32 in any case, by definition.
    """
    softmax = torch.nn.functional.softmax

    def own_softmax(x, dim=None, dtype=None, **options):
        return softmax(x, dim=dim, dtype=torch.float64 if x.dtype == torch.float64 else dtype, **options)

    def own_forward(original):
        def forward(self, x):
            if x.dtype != torch.float64:
                return original(self, x)
            return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))

        return forward

    norms = [
        getattr(importlib.import_module(f"transformers.models.{m}.modeling_{m}"), f"{c}RMSNorm")
        for m, c in (("llama", "Llama"), ("qwen2", "Qwen2"), ("qwen3", "Qwen3"), ("mistral", "Mistral"))
    ]
    originals = [norm.forward for norm in norms]
    try:
        torch.nn.functional.softmax = own_softmax
        for norm in norms:
            norm.forward = own_forward(norm.forward)
        yield
    finally:
        torch.nn.functional.softmax = softmax
        for norm, original in zip(norms, originals, strict=True):
            norm.forward = original


def embed(model, projection, sequences, dtype, **options):
    """float32 [n, D], computed in `dtype`; options as embed_sequence's."""
    model, projection = copy.deepcopy(model).to(dtype), copy.deepcopy(projection).to(dtype)
    with torch.no_grad():
        return torch.stack([embed_sequence(model, projection, s._replace(images=s.images.to(dtype)), **options) for s in sequences]).float()


def adapted(model, settings, generator):
    """The model with adapters of random A and B, as PEFT has them."""
    wrapped = peft.get_peft_model(copy.deepcopy(model), peft.LoraConfig(task_type="FEATURE_EXTRACTION", **settings)).eval()
    for name, parameter in wrapped.named_parameters():
        if "lora_" in name:
            scale = 0.1 if "lora_B" in name else parameter.shape[1] ** -0.5
            parameter.data = scale * torch.randn(parameter.shape, generator=generator)
    return wrapped


def without_peft(named):
    """PEFT's parameter names as in its files, and without its prefix: "layers.0.self_attn.q_proj.lora_A.weight"."""
    return {n.removeprefix("base_model.model.").replace(".base_layer.", ".").replace(".default.", "."): v for n, v in named.items()}


def draw(relevant, generator):
    return torch.multinomial(relevant.double(), 1, generator=generator)[:, 0]


def full_step(model, projection, layer, sequences, generator, store_names, fusion=None, **options):
    """Loss and every gradient of one step: encoder -> prototypes -> normalisation -> PRIME objective.

    The first half of the sequences are queries, the others labels. store_names: transformers' names -> vixen's, fused ones
    stacked. fusion: late fusion's block, or None.
    """
    b, width = len(sequences) // 2, model.config.hidden_size
    f = 0.8 * torch.randn((b, width), generator=generator)
    c = F.normalize(torch.randn((b, width), generator=generator))
    c[::5] = 0  # labels without a training query
    relevant = torch.rand((b, b), generator=generator) < 0.07
    relevant.fill_diagonal_(True)
    draws = {
        "u": draw(relevant, generator),
        "i": draw(relevant.T, generator),
        "uv": draw(relevant, generator),
        "r": draw(relevant, generator),
    }

    model, projection, layer = (copy.deepcopy(m).double().eval() for m in (model, projection, layer))
    fusion = copy.deepcopy(fusion).double().eval() if fusion else None
    free = f.double().requires_grad_()
    h = torch.stack([embed_sequence(model, projection, s._replace(images=s.images.double()), fusion=fusion, **options) for s in sequences])
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
    if fusion:
        gradients |= {f"fusion.{n}": p.grad for n, p in fusion.named_parameters()}
    out = pack(sequences) | {"free_vectors": f, "centroids": c, "positives": relevant}
    out |= {f"draws.{n}": v for n, v in draws.items()}
    out |= {f"prototype.{n}": p.detach() for n, p in layer.named_parameters()}
    if fusion:
        out |= {f"fusion.{n}": p.detach() for n, p in fusion.named_parameters()}
    out |= {n: v.detach() for n, v in terms.items()}
    out |= {"h": h.detach(), "z": z.detach(), "grad_q": q.grad, "grad_u": un.grad, "grad_z": zn.grad, "grad.free_vectors": free.grad}
    out |= {f"grad.{n}": v for n, v in store_names(gradients).items()}
    return out


def write(path, tensors):
    """float64 is stored as float32: the C++ side computes in float32."""
    tensors = {n: (t.float() if t.dtype == torch.float64 else t).contiguous().clone() for n, t in tensors.items()}
    save_file(tensors, path, metadata={"torch": torch.__version__, "transformers": transformers.__version__})

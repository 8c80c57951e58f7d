"""PyTorch renderings of what vixen computes, in autograd: the reference that the parity goldens are made from."""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F


class Sequence(NamedTuple):
    """One sequence of T positions without padding."""

    tokens: torch.Tensor  # int64 [T]; 0 where the position is a picture
    images: torch.Tensor  # [m, I]
    places: torch.Tensor  # int64 [m]: the positions of the pictures


def embed_sequence(
    model: nn.Module,
    projection: nn.Module,
    sequence: Sequence,
    pooling: str = "mean",
    bidirectional: bool = False,
    fusion: nn.Module | None = None,
) -> torch.Tensor:
    """Pooled output of a transformers (or PEFT) model for one Sequence: mean of all positions or the last one.

    fusion: late fusion's block; the model sees the text alone, and the block text and pictures.
    """
    if fusion is not None:
        text = torch.ones(len(sequence.tokens), dtype=torch.bool)
        text[sequence.places] = False
        alone = Sequence(sequence.tokens[text], sequence.images[:0], sequence.places[:0])
        return late_fusion(fusion, embed_sequence(model, projection, alone, pooling, bidirectional), projection(sequence.images))
    rows = model.get_input_embeddings()(sequence.tokens)
    if len(sequence.images):
        rows = rows.index_put((sequence.places,), projection(sequence.images))
    options = {}
    if bidirectional:  # a mask of four dimensions is taken as it is, in place of a decoder's causal one
        options["attention_mask"] = torch.zeros((1, 1, len(rows), len(rows)), dtype=rows.dtype)
    hidden = model(inputs_embeds=rows[None], **options).last_hidden_state[0]
    return hidden.mean(0) if pooling == "mean" else hidden[-1]


def late_fusion(block: nn.Module, text: torch.Tensor, pictures: torch.Tensor) -> torch.Tensor:
    """One post-norm layer over the bag [pooled text, projected pictures] of a sequence; its output at the text.

    block: torch.nn.TransformerEncoderLayer (batch_first); text [D], pictures [m, D] or empty.
    """
    return block(torch.cat([text[None], pictures])[None])[0, 0]


def row_loss(
    scores: torch.Tensor,
    relevant: torch.Tensor,
    positives: torch.Tensor,
    k: int = 10,
    low: float = 0.1,
    high: float = 0.3,
    temperature: float = 0.1,
) -> torch.Tensor:
    """docs/algorithm.md section 4, steps 1 to 5; scores [B, C], relevant bool [B, C], positives int64 [B]."""
    s_p = scores.gather(1, positives[:, None])
    s_n = scores.masked_fill(relevant, -torch.inf).topk(k, dim=1).values
    assert torch.isfinite(s_n).all(), "every row needs k negatives"
    margin = (s_p - s_n).abs().clamp(low, high).detach()
    argument = s_n - s_p + margin
    loss = torch.max(torch.zeros_like(argument), argument)  # half the gradient where the argument is 0
    weights = torch.where(loss > 0, s_n, torch.full_like(s_n, -50.0)).div(temperature).softmax(1)
    return (weights * loss).sum(1).mean()


def mean_of_positive_terms(terms: torch.Tensor) -> torch.Tensor:
    return terms.sum() / (terms > 0).sum() if (terms > 0).any() else terms.sum() * 0


def regulariser(
    s_i: torch.Tensor, s_f: torch.Tensor, relevant: torch.Tensor, positives: torch.Tensor, k: int = 10, margin: float = 0.1
) -> torch.Tensor:
    """Keeps the prototype's scores at least as good as the plain label embedding's."""
    at = positives[:, None]
    positive = F.relu(s_i.gather(1, at) - s_f.gather(1, at) + margin)
    columns = s_f.masked_fill(relevant, -torch.inf).topk(k, dim=1).indices
    negative = F.relu(s_f.gather(1, columns) - s_i.gather(1, columns) + margin)
    return (mean_of_positive_terms(positive) + mean_of_positive_terms(negative)) / 2


def prime_loss(
    q: torch.Tensor, u: torch.Tensor, z: torch.Tensor, relevant: torch.Tensor, draws: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """q, u, z unit rows; the four unweighted terms and the total."""
    s_u, s_z = q @ u.T, q @ z.T
    terms = {
        "loss_u": row_loss(s_u, relevant, draws["u"]),
        "loss_uv": row_loss(s_z, relevant, draws["uv"]),
        "loss_i": row_loss(s_u.T, relevant.T, draws["i"]),
        "loss_r": regulariser(s_u, s_z, relevant, draws["r"]),
    }
    terms["loss"] = terms["loss_u"] + terms["loss_uv"] + terms["loss_i"] + 0.1 * terms["loss_r"]
    return terms


def prototypes(layer: nn.Module, u: torch.Tensor, f: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    """z = mean over the three positions of a torch.nn.TransformerEncoderLayer (batch_first) over [u, f, c]."""
    return layer(torch.stack([u, f, c], 1)).mean(1)

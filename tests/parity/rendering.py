"""PyTorch renderings of what vixen computes, in autograd: the reference that the parity goldens are made from."""

import torch
from torch.nn import functional as F


def embed_sequence(model, projection, tokens, images):
    """Mean-pooled output of a transformers BERT or DistilBERT for one sequence [images][tokens]; no padding anywhere."""
    words = model.embeddings.word_embeddings(tokens)
    rows = torch.cat([projection(images), words]) if len(images) else words
    return model(inputs_embeds=rows[None]).last_hidden_state[0].mean(0)


def row_loss(scores, relevant, positives, k=10, low=0.1, high=0.3, temperature=0.1):
    """algorithm.md section 4, terms 1 to 5; scores [B, C], relevant bool [B, C], positives int64 [B]."""
    s_p = scores.gather(1, positives[:, None])
    s_n = scores.masked_fill(relevant, -torch.inf).topk(k, dim=1).values
    assert torch.isfinite(s_n).all(), "every row needs k negatives"
    margin = (s_p - s_n).abs().clamp(low, high).detach()
    argument = s_n - s_p + margin
    loss = torch.max(torch.zeros_like(argument), argument)  # half the gradient where the argument is 0
    weights = torch.where(loss > 0, s_n, torch.full_like(s_n, -50.0)).div(temperature).softmax(1)
    return (weights * loss).sum(1).mean()


def mean_of_positive_terms(terms):
    return terms.sum() / (terms > 0).sum() if (terms > 0).any() else terms.sum() * 0


def regulariser(s_i, s_f, relevant, positives, k=10, margin=0.1):
    """Keeps the prototype's scores at least as good as the plain label embedding's."""
    at = positives[:, None]
    positive = F.relu(s_i.gather(1, at) - s_f.gather(1, at) + margin)
    columns = s_f.masked_fill(relevant, -torch.inf).topk(k, dim=1).indices
    negative = F.relu(s_f.gather(1, columns) - s_i.gather(1, columns) + margin)
    return (mean_of_positive_terms(positive) + mean_of_positive_terms(negative)) / 2


def prime_loss(q, u, z, relevant, draws):
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


def prototypes(layer, u, f, c):
    """z = mean over the three positions of a torch.nn.TransformerEncoderLayer (batch_first) over [u, f, c]."""
    return layer(torch.stack([u, f, c], 1)).mean(1)

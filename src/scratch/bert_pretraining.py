"""Masked language modelling with a BERT: the head that names hidden words, its loss, and filling in (unit 17).

Symbols: B batch, T positions, D model width, V vocabulary, M chosen tokens of a batch.

Paper: Devlin et al., "BERT", 2019, section 3.1 and appendix A.1.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from scratch.bert import BertModel
from scratch.layers import LayerNorm

IGNORE = -100  # the label of a token that is not asked for


class MaskedLanguageModel(nn.Module):
    """Say of a token which word it is: a dense map, GELU and a norm, and then the table of words, turned round.

    Source: Devlin et al., 2019, section 3.1; the head as in the published code. Tied table: Press and Wolf, 2017.
    """

    def __init__(self, bert: BertModel):
        """Keep ``bert`` and create ``dense`` (D to D), ``norm`` and ``bias`` (V)."""
        super().__init__()
        words = bert.embeddings.words.weight  # (V, D)
        self.bert = bert
        self.dense = nn.Linear(words.shape[1], words.shape[1])
        nn.init.normal_(self.dense.weight, std=0.02)
        nn.init.zeros_(self.dense.bias)
        self.norm = LayerNorm(words.shape[1], eps=1e-12)
        self.bias = nn.Parameter(torch.zeros(len(words)))

    def forward(
        self, ids: Int[Tensor, "B T"], where: Bool[Tensor, "B T"], mask: Bool[Tensor, "B T"] | None = None
    ) -> Float[Tensor, "M V"]:
        """Return logits for the tokens at which ``where`` is True, row by row; the others cost nothing."""
        hidden = self.bert(ids, mask=mask)[where]  # (B, T, D) -> (M, D)
        return self.norm(F.gelu(self.dense(hidden))) @ self.bert.embeddings.words.weight.T + self.bias


def masked_loss(
    model: nn.Module, inputs: Int[Tensor, "B T"], labels: Int[Tensor, "B T"]
) -> Float[Tensor, ""]:
    """Return the mean cross-entropy over the tokens that have a label, as ``scratch.training.train`` asks for it."""
    where = labels != IGNORE
    return F.cross_entropy(model(inputs, where), labels[where])


@torch.no_grad()
def masked_scores(
    model: nn.Module, inputs: Int[Tensor, "B T"], labels: Int[Tensor, "B T"]
) -> tuple[float, float]:
    """Return the loss, and the share of hidden tokens whose likeliest word is the right one; in evaluation mode."""
    mode = model.training
    model.eval()
    where = labels != IGNORE
    logits = model(inputs, where)  # (M, V)
    model.train(mode)
    right = (logits.argmax(-1) == labels[where]).double().mean().item()
    return F.cross_entropy(logits, labels[where]).item(), right


@torch.no_grad()
def fill(model: nn.Module, ids: list[int], mask_id: int, most: int = 5) -> list[tuple[int, float]]:
    """Return the likeliest words for the first [MASK] of a text, each with its probability; in evaluation mode."""
    mode = model.training
    model.eval()
    row = torch.tensor([ids])  # (1, T)
    chances = model(row, row == mask_id)[0].softmax(-1)  # (V,)
    model.train(mode)
    top = chances.topk(most)
    return list(zip(top.indices.tolist(), top.values.tolist(), strict=True))

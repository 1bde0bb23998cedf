"""The four kinds of Transformer side by side: what each can see, measured on built models, and one drawing (unit 19).

What is said of a model is asked of the model itself: its parameters are counted, who sees whom is found out by changing
one input at a time, and where the norms stand is read off its layers.

Symbols: B batch, T positions, S source positions, D model width, V vocabulary.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from scratch.attention import causal_mask
from scratch.blocks import RADIUS, STEP, Drawing, decoder_layer_parts, encoder_layer_parts, sheet
from scratch.layers import Encoder
from scratch.plots import KEY, VALUE, Picture
from scratch.positions import LearnedPositions


class TextEncoder(nn.Module):
    """Read a text, and score for every position which token stands there: an encoder, as in BERT."""

    def __init__(
        self,
        vocabulary: int,
        length: int,
        d_model: int,
        heads: int,
        d_ff: int,
        layers: int,
        causal: bool = False,
    ):
        """Create a table, positions, an encoder; ``causal`` makes it a decoder alone, as in GPT, and pre-norm."""
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, d_model)
        self.positions = LearnedPositions(length, d_model)
        self.encoder = Encoder(d_model, heads, d_ff, layers, dropout=0.0, norm_first=causal)
        self.causal = causal

    def forward(self, ids: Int[Tensor, "B T"]) -> Float[Tensor, "B T V"]:
        """Return scores of tokens, one row for each position: by the table, turned round."""
        mask = causal_mask(ids.shape[1]) if self.causal else None
        return self.encoder(self.positions(self.embedding(ids)), mask) @ self.embedding.weight.T


@torch.no_grad()
def sees(function: Callable[[Tensor], Tensor], *inputs: Tensor) -> Bool[Tensor, "T S"]:
    """Find out which outputs depend on which inputs, by exchanging one input position at a time.

    Args:
        function: takes a tensor with positions in dimension 1, returns one row for each output position, (1, T, D).
        inputs: two such tensors, (1, S, *), that differ at every position.
    """
    one, other = inputs
    before, columns = function(one), []
    for s in range(one.shape[1]):
        changed = one.clone()
        changed[:, s] = other[:, s]
        columns.append((function(changed) - before).abs().amax(dim=-1)[0] > 1e-6)
    return torch.stack(columns, dim=1)  # (T, S)


def named_mask(reach: Bool[Tensor, "T S"]) -> str:
    """Say of what was found out which mask it is."""
    if reach.all():
        return "none: all see all"
    if reach.shape[0] == reach.shape[1] and torch.equal(reach, torch.ones_like(reach).tril()):
        return "causal"
    return "another"


def norm_placement(model: nn.Module) -> str:
    """Say where the norms of a model's layers stand, as its residual connections know."""
    first = {part.norm_first for part in model.modules() if hasattr(part, "norm_first")}
    return {frozenset({True}): "before (pre)", frozenset({False}): "behind (post)"}.get(
        frozenset(first), "mixed"
    )


def parameters(model: nn.Module) -> int:
    """Count the numbers that training sets, each once."""
    return sum(parameter.numel() for parameter in model.parameters())


def table(rows: Mapping[str, Sequence[str]], heads: Sequence[str]) -> str:
    """Lay out named rows of texts below heads, as plain text."""
    lines = [["", *heads], *([name, *cells] for name, cells in rows.items())]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(f"{cell:{w}}" for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _entrance(
    drawing: Drawing, x: float, kind: str, data: str, text: str, extra: str = ""
) -> tuple[float, float]:
    """Draw what comes in: data, its embedding, positions; return where the line goes on."""
    block = drawing.block("data", x, 0.1, data)
    rows = drawing.block(kind, x, 1.0, text)
    place = drawing.block("positions", x, 1.75)
    drawing.arrow((x, block.top[1] - 0.1), rows.bottom)
    drawing.arrow(rows.top, place.bottom)
    if extra:
        drawing.write(x + 0.3, 1.75, extra, align="left", colour="#555555")
    return x, 1.75 + RADIUS


def _stack(drawing: Drawing, x: float, parts: Sequence[tuple[str, str]], start: tuple[float, float]) -> list:
    """Draw one layer in its frame."""
    blocks = drawing.tower(x, 2.55, parts, start=start)
    drawing.frame(x - 1.78, 2.2, x + 1.45, blocks[-1].top[1] + 0.14)
    drawing.write(x + 1.16, 2.34, "N ×", colour="#555555", size=8)
    return blocks


def _exit(drawing: Drawing, x: float, blocks: list, parts: Sequence[tuple[str, str]], says: str) -> float:
    """Draw what goes out, and say what it is; return how high that is."""
    end = drawing.tower(x, blocks[-1].top[1] + 0.55, parts, start=blocks[-1].top)
    top = end[-1].top[1]
    drawing.arrow(end[-1].top, (x, top + 0.35))
    drawing.write(x, top + 0.55, says)
    return top


def drawing() -> Picture:
    """Draw encoder, decoder, encoder–decoder and vision side by side, in the blocks of the course."""
    alt = (
        "Four Transformers side by side, data flowing upwards. Encoder, as BERT: tokens, embedding, positions, layers "
        "of self-attention and feed-forward net with norms behind, a linear map, which token was masked. Decoder, as "
        "GPT: the same with causal self-attention and norms in front, a norm at the end, which token comes next. "
        "Encoder–decoder, the Transformer: an encoder whose top gives keys and values to the cross-attention of a "
        "decoder, which says which token comes next. Vision, ViT: image patches through a linear map, class token and "
        "positions, an encoder with norms in front, a norm, and a linear map of row 0: which class."
    )
    picture, (sheet_,) = sheet(11.2, 6.6, alt=alt)
    causal = [
        (kind, "causal self-attention" if kind == "attention" else text)
        for kind, text in encoder_layer_parts(True)
    ]
    xs = (0.0, 3.5, 7.0, 11.4, 14.9)
    tokens = ("embedding", "tokens", "embedding")
    norm_and_map = [("norm", "norm"), ("linear", "linear (tied)")]
    starts = [
        _entrance(sheet_, xs[0], *tokens),
        _entrance(sheet_, xs[1], *tokens),
        _entrance(sheet_, xs[2], "embedding", "source tokens", "embedding"),
        _entrance(sheet_, xs[3], "embedding", "target tokens", "embedding"),
        _entrance(sheet_, xs[4], "linear", "image", "patches, linear", "class token"),
    ]
    parts = [
        encoder_layer_parts(),
        causal,
        encoder_layer_parts(),
        decoder_layer_parts(),
        encoder_layer_parts(True),
    ]
    stacks = [_stack(sheet_, x, part, start) for x, part, start in zip(xs, parts, starts, strict=True)]
    tops = [
        _exit(sheet_, xs[0], stacks[0], [("linear", "linear (tied)")], "the masked tokens"),
        _exit(sheet_, xs[1], stacks[1], norm_and_map, "the next token"),
        _exit(sheet_, xs[3], stacks[3], [("linear", "linear (tied)")], "the next token"),
        _exit(sheet_, xs[4], stacks[4], [("norm", "norm"), ("linear", "head, row 0")], "the class"),
    ]
    cross, memory = stacks[3][3], stacks[2][-1].top
    height, middle, over = cross.bottom[1] - STEP / 2 + 0.02, 9.05, memory[1] + 0.45
    sheet_.arrow(memory, (xs[2], over), (middle, over), head=False)
    for part, colour, low in (("key", KEY, height), ("value", VALUE, height - 0.1)):
        end = cross.mouth(part)
        sheet_.arrow((middle, over), (middle, low), (end[0], low), (end[0], end[1] - 0.06), colour=colour)
    sheet_.write(middle - 0.1, over + 0.2, "memory", align="right")
    high = max(tops) + 1.25
    names = {
        "encoder: BERT": xs[0],
        "decoder: GPT": xs[1],
        "encoder–decoder: Transformer": 9.2,
        "vision: ViT": xs[4],
    }
    for name, x in names.items():
        sheet_.ax.text(x, high, name, ha="center", va="center", fontsize=11, weight="bold", zorder=6)
    sheet_.fit(-1.95, -0.2, 16.5, high + 0.3)
    return picture

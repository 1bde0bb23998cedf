"""What a training step of ``scratch.transformer`` costs beside ``torch.nn.Transformer``: ``make bench``.

All get the same embedding, sinusoids, tied logits, loss, optimiser and rate of dropout. ``nn.Transformer`` runs twice:
as it comes, and at its best. As it comes, dropout is also at work inside attention and inside the feed-forward nets. At
its best that is taken out, so that dropout stands where the paper has it and attention can be PyTorch's fused one. They
take turns, and the order alternates. CPU time of one thread, so that other processes disturb little. After a warm-up:
the medians, and the ratio of each round with its spread.
"""

from __future__ import annotations

import math
import statistics
import time

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from scratch.positions import sinusoidal_encoding
from scratch.transformer import Transformer

#        name                    V       D    H  F     layers  B   S   T   rounds, steps a round
SIZES = [
    ("base model of 2017", 37_000, 512, 8, 2048, 6, 4, 24, 24, 9, 1),
    ("small: D = 128, 2 + 2 layers", 1_000, 128, 4, 512, 2, 32, 16, 16, 15, 5),
]
DROPOUT = 0.1


class Framework(nn.Module):
    """``nn.Transformer`` with what ``scratch.transformer.Transformer`` has around it."""

    def __init__(
        self, vocabulary: int, d_model: int, heads: int, d_ff: int, layers: int, *, best: bool
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, d_model)
        nn.init.normal_(self.embedding.weight, std=d_model**-0.5)
        self.core = nn.Transformer(d_model, heads, layers, layers, d_ff, DROPOUT, batch_first=True)
        self.core.encoder.norm = self.core.decoder.norm = None  # post-norm layers end in one
        for module in (
            self.core.modules() if best else ()
        ):  # dropout behind sub-layers only, so that attention can be fused
            if isinstance(module, nn.MultiheadAttention):
                module.dropout = 0.0
            elif isinstance(module, (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)):
                module.dropout.p = 0.0
        self.dropout = nn.Dropout(DROPOUT)
        self.register_buffer("positions", sinusoidal_encoding(512, d_model))

    def embed(self, ids: Tensor) -> Tensor:
        """As there, with positions that were worked out once."""
        x = self.embedding(ids) * math.sqrt(self.embedding.embedding_dim)
        return self.dropout(x + self.positions[: ids.shape[1]])

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """As there; True forbids in these masks."""
        future = torch.ones(target.shape[1], target.shape[1], dtype=torch.bool).triu(1)
        padding = source == 0
        x = self.core(
            self.embed(source), self.embed(target), tgt_mask=future, src_key_padding_mask=padding,
            tgt_key_padding_mask=target == 0, memory_key_padding_mask=padding,
        )  # fmt: skip
        return x @ self.embedding.weight.T


def batch(vocabulary: int, size: int, length: int) -> Tensor:
    """Random ids, every other sequence with padding at its end."""
    ids = torch.randint(1, vocabulary, (size, length))
    ids[::2, -length // 4 :] = 0
    return ids


def measure(sizes: tuple[int, ...], rounds: int, steps: int) -> dict[str, list[float]]:
    """CPU milliseconds of a training step of each model, round by round."""
    vocabulary, d_model, heads, d_ff, layers, size, source_length, target_length = sizes
    torch.manual_seed(0)
    models = {
        "scratch": Transformer(vocabulary, d_model, heads, d_ff, layers, DROPOUT),
        "as it comes": Framework(vocabulary, d_model, heads, d_ff, layers, best=False),
        "at its best": Framework(vocabulary, d_model, heads, d_ff, layers, best=True),
    }
    counts = {sum(p.numel() for p in model.parameters()) for model in models.values()}
    assert len(counts) == 1, f"they differ in size: {counts}"
    optimizers = {
        name: torch.optim.Adam(model.parameters(), lr=1e-4, fused=True) for name, model in models.items()
    }
    source, target = batch(vocabulary, size, source_length), batch(vocabulary, size, target_length + 1)

    def step(name: str) -> None:
        logits = models[name](source, target[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), target[:, 1:].flatten(), ignore_index=0)
        optimizers[name].zero_grad()
        loss.backward()
        optimizers[name].step()

    times = {name: [] for name in models}
    for number in range(rounds + 1):
        for name in list(models)[:: 1 if number % 2 else -1]:
            start = time.process_time()
            for _ in range(steps):
                step(name)
            if number:
                times[name].append(1000 * (time.process_time() - start) / steps)
    return times


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    table = Table(title="a training step: CPU milliseconds, medians", title_justify="left")
    for column in ("model", "nn.Transformer", "scratch", "theirs", "ratio", "middle half", "all rounds"):
        table.add_column(column, justify="left" if column in ("model", "nn.Transformer") else "right")
    for name, *numbers in SIZES:
        *sizes, rounds, steps = numbers
        times = measure(tuple(sizes), rounds, steps)
        ours = times.pop("scratch")
        for way, theirs in times.items():
            ratios = sorted(one / other for one, other in zip(ours, theirs, strict=True))
            low, middle, high = statistics.quantiles(ratios, n=4)
            medians = [f"{statistics.median(values):.1f}" for values in (ours, theirs)]
            spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
            table.add_row(name, way, *medians, f"{middle:.2f}", f"{low:.2f} to {high:.2f}", spread)
            name = ""
    Console().print(table)


if __name__ == "__main__":
    main()

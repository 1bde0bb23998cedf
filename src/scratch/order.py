"""Small models that read order, and tasks that need it (unit 10).

A reader is one layer of attention and one feed-forward net. How it learns where a row stands is a ``Code``, which it is
given: so the same model can be trained with every kind of positions, and without any.

Symbols: B batch, T positions, V vocabulary, D model width, H heads, K head width.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from scratch.attention import causal_mask, scaled_dot_product_attention
from scratch.layers import FeedForward, LayerNorm
from scratch.multi_head_attention import merge_heads, split_heads
from scratch.optimization import AdamW, warmup_cosine
from scratch.training import train

WIDTH, HEADS = 32, 4
TASKS: dict[str, Callable[[Tensor], Tensor]] = {
    "copy": lambda ids: ids,
    "previous": lambda ids: torch.cat([ids[:, :1], ids[:, :-1]], dim=1),  # the first has none: it stays
    "sort": lambda ids: ids.sort(dim=1).values,
    "reverse": lambda ids: ids.flip(1),
}


class Code(NamedTuple):
    """How a reader learns about positions: what happens to its rows (B, T, D), and how its heads attend.

    ``attend`` takes queries, keys and values (B, H, T, K) and returns (B, H, T, K).
    """

    add: Callable[[Tensor], Tensor] = nn.Identity()
    attend: Callable[[Tensor, Tensor, Tensor], Tensor] = scaled_dot_product_attention


def make_codes(
    parts: Mapping[str, Any], length: int, *, trained: int | None = None, causal: bool = False
) -> dict[str, Code]:
    """Return the codes of unit 10 by name: none, sinusoids, learned, rotary, ALiBi.

    Args:
        parts: holds ``sinusoidal_encoding``, ``LearnedPositions``, ``rotary_attention`` and ``alibi_bias``, as
            ``vars(scratch.positions)`` or the names of a notebook do.
        length: the longest sequence that will be read.
        trained: for how many positions there are learned vectors; None: for all.
        causal: whether nobody may look at what comes after. With ALiBi, nobody ever may.
    """
    mask = causal_mask(length) if causal else torch.ones(length, length, dtype=torch.bool)
    waves, bias = parts["sinusoidal_encoding"](length, WIDTH), parts["alibi_bias"](HEADS, length)

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        T = query.shape[-2]
        return scaled_dot_product_attention(query, key, value, mask[:T, :T])

    def turn(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        T = query.shape[-2]
        return parts["rotary_attention"](query, key, value, mask[:T, :T])

    def price(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        T = query.shape[-2]
        return scaled_dot_product_attention(query, key, value, bias[:, :T, :T])

    return {
        "none": Code(attend=attend),
        "sinusoids": Code(lambda x: x + waves[: x.shape[-2]], attend),
        "learned": Code(parts["LearnedPositions"](trained or length, WIDTH), attend),
        "rotary": Code(attend=turn),
        "ALiBi": Code(attend=price),
    }


class Reader(nn.Module):
    """One layer of attention and one feed-forward net, with residual connections, that answers at every position."""

    def __init__(self, vocabulary: int, code: Code):
        """Create the embedding (small, so that positions are not drowned), the maps, the norms, and the output."""
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, WIDTH)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.add, self.attend = code
        self.query, self.key, self.value, self.output = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.norm, self.last_norm = LayerNorm(WIDTH), LayerNorm(WIDTH)
        self.feed_forward = FeedForward(WIDTH, 2 * WIDTH)
        self.answer = nn.Linear(WIDTH, vocabulary)

    def mix(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """Let positions look at one another: the attention alone."""
        q, k, v = (split_heads(part(x), HEADS) for part in (self.query, self.key, self.value))
        return self.output(merge_heads(self.attend(q, k, v)))

    def forward(self, ids: Int[Tensor, "B T"]) -> Float[Tensor, "B T V"]:
        """Return, for every position, a score for each of the V answers."""
        x = self.add(self.embedding(ids))
        x = x + self.mix(self.norm(x))
        return self.answer(x + self.feed_forward(self.last_norm(x)))


def train_reader(
    code: Code,
    examples: Callable[[], Iterator[tuple[Tensor, Tensor]]],
    steps: int,
    vocabulary: int = 8,
    seed: int = 0,
) -> tuple[Reader, list[float]]:
    """Train a reader on batches of (ids, targets), each (B, T); return it and the loss of every step.

    ``examples`` returns an iterator over as many batches as there are steps. A target of −100 does not count.
    """

    def loss_of(model: Reader, ids: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(model(ids).flatten(0, 1), targets.flatten(), ignore_index=-100)

    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):  # random numbers elsewhere go on as before
        torch.manual_seed(seed)
        torch.set_num_threads(1)  # matrices this small only wait for one another on several
        try:
            if isinstance(code.add, nn.Module) and hasattr(code.add, "weight"):
                nn.init.normal_(code.add.weight, std=0.02)  # the same start in every training
            model = Reader(vocabulary, code)
            losses = train(
                model,
                loss_of,
                lambda epoch: examples(),
                AdamW(model.parameters(), lr=1e-2, weight_decay=0.0),
                epochs=1,
                schedule=lambda step: warmup_cosine(step, peak=1e-2, warmup=min(20, steps // 2), total=steps),
            )
        finally:
            torch.set_num_threads(threads)
    return model.eval(), losses


def drill(
    task: str, steps: int, *, size: int = 64, length: int = 8, vocabulary: int = 8, seed: int = 1
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield so many batches of random digits (size, length), each with what the task makes of it."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        ids = torch.randint(vocabulary, (size, length), generator=generator)
        yield ids, TASKS[task](ids)


def write_language(
    texts: int, length: int, *, vocabulary: int = 8, seed: int
) -> tuple[Int[Tensor, "texts length"], Float[Tensor, "V V V"]]:
    """Write texts in a made-up language in which the last two tokens decide, by chance, on the next.

    Returns:
        The texts, and the probabilities (V, V, V): entry [a, b, c] is that of c after a and b. The language is the
        same for every seed.
    """
    grammar = torch.Generator().manual_seed(3)
    chances = (2.5 * torch.randn(vocabulary, vocabulary, vocabulary, generator=grammar)).softmax(-1)
    generator = torch.Generator().manual_seed(seed)
    columns = list(torch.randint(vocabulary, (2, texts), generator=generator))
    while len(columns) < length:
        rows = chances[columns[-2], columns[-1]]  # (texts, V)
        columns.append(torch.multinomial(rows, 1, generator=generator)[:, 0])
    return torch.stack(columns, dim=1), chances

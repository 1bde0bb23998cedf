"""The last cell of unit 11: the learner's encoder is held against PyTorch's, and learns to judge brackets.

A string of brackets is balanced if every closing one has its opening one before it. Both kinds are equally frequent in
all strings here, so that counting alone tells nothing: an encoder has to look.
"""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from scratch.positions import sinusoidal_encoding
from scratch.rewards import UNFINISHED, tried

NAMES = ("LayerNorm", "FeedForward", "Residual", "EncoderLayer", "Encoder")
LENGTH, WIDTH, HEADS, INNER, LAYERS = 20, 32, 4, 64, 2
STEPS, SIZE, PEAK, EVERY = 500, 64, 4e-3, 20
PATIENCE = 60.0  # seconds that the training may take
OPEN, CLOSE, START = 0, 1, 2


def make_brackets(count: int, length: int, seed: int) -> tuple[Int[Tensor, "N T"], Bool[Tensor, " N"]]:
    """Draw bracket strings, as ids (N, T), and whether each is balanced; about half are.

    Of those that are not, half are a balanced string in which two brackets changed places.
    """
    random = torch.Generator().manual_seed(seed)
    order = torch.rand(count, length, generator=random).argsort(dim=-1)
    steps = torch.where(order < length // 2, 1, -1)  # +1 opens, -1 closes; equally many
    lowest = steps.cumsum(dim=-1).argmin(
        dim=-1
    )  # started behind its lowest point, a string never falls below zero
    turned = (torch.arange(length) + lowest[:, None] + 1) % length
    balanced = steps.gather(-1, turned)
    pair = torch.rand(count, length, generator=random).argsort(dim=-1)[:, :2]
    swapped = balanced.scatter(-1, pair, balanced.gather(-1, pair.flip(-1)))
    kind = torch.rand(count, 1, generator=random)
    steps = torch.where(kind < 0.5, balanced, torch.where(kind < 0.75, swapped, steps))
    return (steps < 0).long(), (steps.cumsum(dim=-1) >= 0).all(dim=-1)


class Judge(nn.Module):
    """A start token before the string, embeddings and positions, an encoder, and a verdict read off the start token."""

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.embedding = nn.Embedding(3, WIDTH)
        nn.init.normal_(self.embedding.weight, std=WIDTH**-0.5)
        self.encoder = encoder
        self.output = nn.Linear(WIDTH, 1)

    def embed(self, ids: Int[Tensor, "B T"]) -> Float[Tensor, "B T+1 D"]:
        """Embed the string, with the start token before it."""
        ids = F.pad(ids, (1, 0), value=START)
        return self.embedding(ids) * math.sqrt(WIDTH) + sinusoidal_encoding(ids.shape[-1], WIDTH)

    def judge(self, x: Float[Tensor, "B T+1 D"]) -> Float[Tensor, " B"]:
        """Return a number for each embedded string, above zero for balanced."""
        return self.output(self.encoder(x)[:, 0]).squeeze(-1)

    def forward(self, ids: Int[Tensor, "B T"]) -> Float[Tensor, " B"]:
        """Return a number for each string, above zero for balanced."""
        return self.judge(self.embed(ids))


def packed(layer: Any) -> dict[str, Tensor]:
    """The weights of the learner's layer under the names of ``nn.TransformerEncoderLayer``."""
    parts = {
        "self_attn.out_proj": layer.attention.output,
        "linear1": layer.feed_forward.hidden,
        "linear2": layer.feed_forward.output,
        "norm1": layer.attention_residual.norm,
        "norm2": layer.feed_forward_residual.norm,
    }
    state = {
        f"{name}.{kind}": getattr(part, kind) for name, part in parts.items() for kind in ("weight", "bias")
    }
    for kind in ("weight", "bias"):
        thirds = [getattr(getattr(layer.attention, part), kind) for part in ("query", "key", "value")]
        state[f"self_attn.in_proj_{kind}"] = torch.cat(thirds)
    return state


@torch.no_grad()
def distance(make: Callable[..., nn.Module], norm_first: bool) -> float:
    """The largest difference of the learner's stack from ``nn.TransformerEncoder`` with the same weights."""
    mine = make(WIDTH, HEADS, INNER, LAYERS, dropout=0.0, norm_first=norm_first)
    layer = nn.TransformerEncoderLayer(
        WIDTH, HEADS, INNER, dropout=0.0, batch_first=True, norm_first=norm_first
    )
    last = nn.LayerNorm(WIDTH) if norm_first else None
    theirs = nn.TransformerEncoder(layer, LAYERS, last, enable_nested_tensor=False)
    for one, two in zip(mine.layers, theirs.layers, strict=True):
        two.load_state_dict(packed(one))
    mask = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()
    x = torch.randn(4, LENGTH, WIDTH)
    return (mine(x, mask) - theirs(x, ~mask)).abs().max().item()  # PyTorch's True forbids


class TooSlow(Exception):
    """The training would take longer than a reader waits."""


def train_judge(make: Callable[..., nn.Module]) -> tuple[Judge, list[float], Tensor, Tensor]:
    """Train the learner's stack on 8,000 strings.

    Returns:
        The model, its accuracy on unseen strings after every 20 steps, these strings and what is true of them.
    """
    from scratch.optimization import AdamW, warmup_cosine

    ids, balanced = make_brackets(8000, LENGTH, seed=0)
    known = {tuple(row) for row in ids.tolist()}
    test, truth = make_brackets(1000, LENGTH, seed=1)
    new = torch.tensor([tuple(row) not in known for row in test.tolist()])
    test, truth = test[new], truth[new]
    model, seen = Judge(make(WIDTH, HEADS, INNER, LAYERS, dropout=0.0, norm_first=True)), []
    optimizer = AdamW(model.parameters())

    def verdict(rows: Tensor) -> Tensor:
        score = model(rows)
        return torch.stack([-score, score], dim=-1)

    begun = time.monotonic()
    for step in range(1, STEPS + 1):
        rows = torch.randint(len(ids), (SIZE,))
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(model(ids[rows]), balanced[rows].float()).backward()
        optimizer.lr = warmup_cosine(step, peak=PEAK, warmup=40, total=STEPS)
        optimizer.step()
        if (time.monotonic() - begun) / step * STEPS > PATIENCE and step > 2:
            raise TooSlow
        if step % EVERY == 0:
            with torch.no_grad():
                score = model(test)
            seen.append(((score > 0) == truth).double().mean().item())
    return model, seen, test, truth


def judge_brackets(namespace: Mapping[str, Any]) -> Any:
    """Hold the learner's stack against PyTorch's, train it on brackets, and show how it judges unseen ones."""

    def use() -> Any:
        threads = torch.get_num_threads()
        with torch.random.fork_rng(devices=[]):  # the notebook's own random numbers go on as before
            torch.manual_seed(0)
            torch.set_num_threads(1)  # matrices this small only wait for one another on several
            try:
                apart = [distance(namespace["Encoder"], pre) for pre in (False, True)]
                return apart, train_judge(namespace["Encoder"])
            except TooSlow:
                return apart, None
            finally:
                torch.set_num_threads(threads)

    result = tried(NAMES, namespace, use)
    if result is None:
        return None
    apart, trained = result
    if not max(apart) < 1e-4 or (trained and trained[1][-1] < 0.75):
        return print(UNFINISHED)
    print("Largest difference from nn.TransformerEncoder with the same weights, under a causal mask:")
    print(f"  {apart[0]:.0e} as post-norm, {apart[1]:.0e} as pre-norm")
    if trained is None:
        return print(
            f"Training would take over {PATIENCE:.0f} s: is there a loop that a tensor operation could be?"
        )
    model, seen, test, truth = trained
    from IPython.display import display

    from scratch.layers_plots import lines, verdicts

    print(f"Held-out accuracy on brackets: {seen[-1]:.1%} of {len(test)} strings that it has not seen")
    at = range(EVERY, STEPS + 1, EVERY)
    display(
        lines(
            {"what it never saw": {"held-out accuracy": seen}}, at, "step", ["accuracy"],
            marks={"always the same verdict": max(truth.double().mean().item(), 1 - truth.double().mean().item())},
        )
    )  # fmt: skip
    rows, weights = _shown(model, test, truth)
    texts = ["".join("()"[i] for i in row) for row in test[rows].tolist()]
    with torch.no_grad():
        said = model(test[rows]) > 0
    words = ["balanced" if s else "not balanced" for s in said]
    right = (said == truth[rows]).tolist()
    title = "Unseen strings, their verdicts, and on which brackets these depend most"
    return verdicts(texts, weights.numpy(), words, right, title)


def _shown(model: Judge, test: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Which strings to show, some misjudged ones among them, and how strongly each verdict depends on each bracket."""
    with torch.no_grad():
        right = (model(test) > 0) == truth
    parts = [(right & truth, 3), (right & ~truth, 3), (~right, 3)]
    rows = torch.cat([part.nonzero().flatten()[:count] for part, count in parts])
    x = model.embed(test[rows]).detach().requires_grad_()
    (slopes,) = torch.autograd.grad(model.judge(x).sum(), x)
    size = slopes.norm(dim=-1)[:, 1:]  # (N, T): without the start token
    return rows, size / size.amax(dim=-1, keepdim=True)

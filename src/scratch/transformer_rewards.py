"""The last cell of unit 12: the learner's own Transformer is counted at its size of 2017, and a small one writes."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor, nn

from scratch.rewards import UNFINISHED, tried

NAMES = ("combine_masks", "DecoderLayer", "Decoder", "Transformer", "parameter_budget")
PAD, START, END = 0, 1, 2
LETTERS = "abcdefghijklmnopqrstuvwxyz"
V = 3 + len(LETTERS)
LONGEST, STEPS, SIZE, PEAK = 9, 500, 64, 3e-3
WORDS = "attention decoder encoder memory query mask residual position layer token"
BASE = {"vocabulary": 37_000, "d_model": 512, "d_ff": 2048, "layers": 6}


def backwards(count: int, random: torch.Generator) -> tuple[Int[Tensor, "B S"], Int[Tensor, "B T"]]:
    """Draw strings of 3 to ``LONGEST`` random letters as ids, and the same backwards between START and END."""
    lengths = torch.randint(3, LONGEST + 1, (count,), generator=random).tolist()
    words = [torch.randint(3, V, (length,), generator=random).tolist() for length in lengths]
    return pad(words), pad([[START, *reversed(word), END] for word in words])


def pad(rows: Sequence[Sequence[int]]) -> Int[Tensor, "B T"]:
    """Make a rectangle of rows, with padding on the right."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[PAD] * (longest - len(row))] for row in rows])


def spell(ids: Sequence[int]) -> str:
    """Read ids as letters, up to the END."""
    ids = [int(i) for i in ids if i not in (PAD, START)]
    return "".join(LETTERS[i - 3] for i in (ids[: ids.index(END)] if END in ids else ids))


def learn(model: nn.Module, steps: int = STEPS) -> list[float]:
    """Train a model to write backwards; return the loss of every step."""
    random = torch.Generator().manual_seed(12)
    optimizer = torch.optim.Adam(model.parameters(), lr=PEAK, betas=(0.9, 0.98))
    pace = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: min((s + 1) / 100, 1 - s / steps))
    losses = []
    for _ in range(steps):
        source, target = backwards(SIZE, random)
        logits = model(source, target[:, :-1])  # (B, T, V)
        loss = F.cross_entropy(logits.flatten(0, 1), target[:, 1:].flatten(), ignore_index=PAD)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        pace.step()
        losses.append(loss.item())
    return losses


@torch.no_grad()
def write(model: nn.Module, source: Int[Tensor, "B S"], length: int) -> Int[Tensor, "B T"]:
    """Write so many tokens, one by one, always the likeliest."""
    model.eval()
    memory = model.encode(source)
    target = torch.full((len(source), 1), START)
    for _ in range(length):
        following = model.decode(target, memory, source)[:, -1].argmax(-1)  # (B,)
        target = torch.cat([target, following[:, None]], dim=1)
    return target


def _counted(transformer: Any) -> int:
    """How many numbers training would set in the base model of 2017; those on "meta" take no memory and no time."""
    with torch.device("meta"):
        model = transformer(BASE["vocabulary"])
    return sum(parameter.numel() for parameter in model.parameters())


def _trained(namespace: Mapping[str, Any]) -> tuple:
    """Count, train, write: what there is to show."""
    counted = _counted(namespace["Transformer"])
    budget = namespace["parameter_budget"](*BASE.values())
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):  # the notebook's own random numbers go on as before
        torch.manual_seed(0)
        torch.set_num_threads(1)  # matrices this small only wait for one another on several
        try:
            model = namespace["Transformer"](V, 64, 4, 128, 1, dropout=0.0)
            losses = learn(model)
            source = pad([[3 + LETTERS.index(letter) for letter in word] for word in WORDS.split()])
            return counted, budget, losses, model, source, write(model, source, LONGEST + 1)
        finally:
            torch.set_num_threads(threads)


def read_and_write(namespace: Mapping[str, Any]) -> Any:
    """Count the base model of 2017, let a small model of the learner's learn to write backwards, and show both."""
    result = tried(NAMES, namespace, lambda: _trained(namespace))
    if result is None:
        return None
    counted, budget, losses, model, source, written = result
    texts = [spell(row.tolist()) for row in written]
    right = sum(word[::-1] == text for word, text in zip(WORDS.split(), texts, strict=True))
    if not isinstance(budget, dict) or sum(budget.values()) != counted or right < len(texts) // 2:
        return print(UNFINISHED)

    from IPython.display import display

    from scratch import transformer_plots as plots

    print(
        f"The base model of 2017, your classes, 37,000 tokens: {counted:,} parameters. Your formula says the same."
    )
    display(plots.budget({"base model": budget}))
    print(
        f"loss {losses[0]:.2f} before, {losses[-1]:.2f} after {STEPS} steps; {right} of {len(texts)} words are right"
    )
    for word, text in zip(WORDS.split(), texts, strict=True):
        print(f"  {word:10} → {text:10}" + ("" if text == word[::-1] else f" (backwards it is {word[::-1]})"))
    word = WORDS.split()[1]
    ids = source[1:2, : len(word)]
    target = torch.tensor([[START, *ids[0].flip(0).tolist()]])
    weights = plots.looked_up(model, ids, target)
    return plots.head_row(weights, list(word), ["⟨s⟩", *reversed(word)])

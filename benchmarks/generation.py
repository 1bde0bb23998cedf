"""How much faster a GPT writes with a key-value cache: ``make bench``.

The lesson's model (three layers, width 128, not trained: what it writes does not matter) writes 64, 128 and 256 tokens
from a prompt of one, greedily: by ``scratch.generation.generate``, and by reading its whole text again for every token.
Both take turns, and the order alternates. CPU time of one thread, so that other processes disturb little. After a
warm-up: the medians, and the ratio of each round with its spread.
"""

from __future__ import annotations

import statistics
import time

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from scratch.generation import generate
from scratch.gpt import GPT

LENGTHS, ROUNDS = (64, 128, 256), 9
VOCABULARY, BATCH = 69, 1


def greedy(logits: Tensor) -> Tensor:
    """The likeliest token of each row."""
    return logits.argmax(dim=-1)


@torch.no_grad()
def reread(model: GPT, prompt: Tensor, limit: int) -> Tensor:
    """Write without a cache."""
    for _ in range(limit):
        prompt = torch.cat([prompt, greedy(model(prompt)[:, -1])[:, None]], dim=1)
    return prompt


def measure(model: GPT, limit: int) -> dict[str, list[float]]:
    """CPU milliseconds of a text in each way, round by round."""
    prompt = torch.zeros(BATCH, 1, dtype=torch.int64)
    ways = {
        "without": lambda: reread(model, prompt, limit),
        "with": lambda: generate(model, prompt, greedy, limit=limit),
    }
    assert torch.equal(*(way() for way in ways.values())), "the two ways wrote different texts"
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(ROUNDS + 1):
        for name in list(ways)[:: 1 if number % 2 else -1]:
            start = time.process_time()
            ways[name]()
            if number:
                times[name].append(1000 * (time.process_time() - start))
    return times


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = GPT(VOCABULARY, max(LENGTHS) + 1).eval()
    table = Table(title="writing a text: CPU milliseconds, medians", title_justify="left")
    for column in ("tokens", "without cache", "with", "times as fast", "middle half", "all rounds"):
        table.add_column(column, justify="right")
    for limit in LENGTHS:
        times = measure(model, limit)
        ratios = sorted(slow / fast for slow, fast in zip(times["without"], times["with"], strict=True))
        low, middle, high = statistics.quantiles(ratios, n=4)
        medians = [f"{statistics.median(values):.0f}" for values in times.values()]
        spread = f"{ratios[0]:.1f} to {ratios[-1]:.1f}"
        table.add_row(str(limit), *medians, f"{middle:.1f}", f"{low:.1f} to {high:.1f}", spread)
    Console().print(table)


if __name__ == "__main__":
    main()

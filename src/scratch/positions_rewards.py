"""The last cell of unit 10: the learner's own codes teach small models to sort and to reverse."""

from collections.abc import Mapping
from typing import Any

import torch

from scratch.rewards import UNFINISHED, tried

NAMES = (
    "permutation_test",
    "sinusoidal_encoding",
    "LearnedPositions",
    "apply_rope",
    "rotary_attention",
    "alibi_bias",
)
STEPS, LENGTH, DIGITS = 200, 8, 8


def try_codes(namespace: Mapping[str, Any], steps: int = STEPS) -> tuple[dict[str, float], torch.Tensor]:
    """Train a reader for every task and every code of the learner's, and test it on sequences it never saw.

    Returns:
        For every code how far its untrained attention is from not seeing order, by the learner's test; and the
        accuracies (tasks, codes).
    """
    from scratch.order import TASKS, Reader, drill, make_codes, train_reader
    from scratch.training import accuracy

    with torch.random.fork_rng(devices=[]):  # the notebook's own random numbers go on as before
        torch.manual_seed(0)
        codes, seen = make_codes(namespace, LENGTH), {}
        for name, code in codes.items():
            model = Reader(DIGITS, code)
            x = torch.randn(LENGTH, 32)
            with torch.no_grad():
                seen[name] = namespace["permutation_test"](
                    lambda x, m=model: m.mix(m.add(x[None]))[0], x, seed=0
                )
        scores = torch.zeros(len(TASKS), len(codes))
        for row, task in enumerate(TASKS):
            ids, targets = next(drill(task, 1, size=1000, length=LENGTH, seed=99))
            for column, code in enumerate(codes.values()):
                model, _ = train_reader(code, lambda task=task: drill(task, steps, length=LENGTH), steps)
                scores[row, column] = accuracy(model, ids, targets)
    return seen, scores


def which_code(namespace: Mapping[str, Any]) -> Any:
    """Train twenty small models with the learner's parts, and show which task needs which kind of positions."""
    result = tried(NAMES, namespace, lambda: try_codes(namespace))
    if result is None:
        return None
    seen, scores = result
    right = seen["none"] < 1e-5 < min(value for name, value in seen.items() if name != "none")
    if not right or scores[3, 1] < 0.9:  # sinusoids are enough to reverse
        return print(UNFINISHED)

    from scratch.order import TASKS
    from scratch.positions_plots import scoreboard

    print("What your permutation test says of the untrained attention:")
    print(", ".join(f"{name} {value:.1g}" for name, value in seen.items()))
    print("\nWhy a task that looks ahead is hard with ALiBi: its bias forbids the future.")
    return scoreboard(scores, list(TASKS), list(seen))

"""The last cell of unit 18: the learner's span corruption opens a play, and the learner's T5 does three tasks."""

import time
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from scratch import t5_tasks
from scratch.rewards import UNFINISHED, tried
from scratch.seq2seq import greedy_decode
from scratch.spans import draw_spans

NAMES = ("span_corruption", "restore_spans", "relative_position_bucket", "RMSNorm", "T5Attention", "T5")
LINE = "But soft what light through yonder window breaks It is the east and Juliet is the sun".split()
SIZES = {"d_model": 64, "heads": 4, "d_key": 16, "d_ff": 128, "layers": 2, "dropout": 0.0}
SIZES |= {"gated": True, "buckets": 16, "max_distance": 32}
STEPS, SHARES = 600, (0.4, 0.4, 0.2)
PATIENCE = 150  # seconds of computing; parts in a vectorised style take twenty


class TooSlowError(Exception):
    """Training took longer than anybody wants to wait for a table."""


class Watched(nn.Module):
    """A model that gives up when time is up."""

    def __init__(self, model: nn.Module):
        """Watch this model from now on."""
        super().__init__()
        self.model, self.begun = model, time.process_time()

    def forward(self, source: Int[Tensor, "B S"], labels: Int[Tensor, "B T"]) -> Tensor:
        """Return the model's logits.

        Raises:
            TooSlowError: more than ``PATIENCE`` seconds have passed.
        """
        if time.process_time() - self.begun > PATIENCE:
            raise TooSlowError
        return self.model(source, labels)


@torch.no_grad()
def write(model: Any, source: Int[Tensor, "B S"], end: int, limit: int) -> Int[Tensor, "B T"]:
    """Let the learner's model write, with its caches."""
    memory, caches = model.encode(source), model.new_caches()

    def step(token: Tensor, caches: Any) -> tuple[Tensor, Any]:
        return model.decode(token[:, None], memory, source, caches)[:, -1], caches

    begin = torch.full((len(source),), model.pad)
    return greedy_decode(step, caches, begin, end=end, limit=limit, pad=model.pad)


def opened(namespace: Mapping[str, Any], seed: int = 18) -> dict[str, list[str]]:
    """Take spans out of a line of a play, and put them back: what there is to show, in words."""
    first = 99
    ids, spans = list(range(len(LINE))), draw_spans(len(LINE), 0.3, 2.5, seed)
    source, target = namespace["span_corruption"](ids, spans, first)
    restored = namespace["restore_spans"](source, target, first)

    def words(ids: list[int]) -> list[str]:
        return [LINE[i] if i < len(LINE) else f"⟨{first - i}⟩" for i in ids]

    return {"spans": spans, "source": words(source), "target": words(target), "text": words(restored)}


def _done(namespace: Mapping[str, Any]) -> tuple | None:
    shown = opened(namespace)
    data = t5_tasks.load_tasks()
    codec = t5_tasks.vocabulary(data)
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):  # the notebook's own random numbers go on as before
        torch.manual_seed(0)
        torch.set_num_threads(1)  # matrices this small only wait for one another on several
        try:
            model = namespace["T5"](len(codec), **SIZES)
            probe = t5_tasks.pad([([1, 2], [1, 2])])
            model(*probe)  # a part that is missing shows here, before anything is trained
            write(model, probe[0], t5_tasks.END, 2)
            parts = [[t5_tasks.encode(codec, pair) for pair in data.train[task]] for task in t5_tasks.TASKS]
            losses = t5_tasks.learn(Watched(model), parts, SHARES, STEPS)
            held_out = {task: pairs[:200] for task, pairs in data.held_out.items()}
            written = {
                task: t5_tasks.answers(model, codec, [source for source, _ in pairs], write)
                for task, pairs in held_out.items()
            }
            return shown, losses, held_out, written, model
        except TooSlowError:
            return print(
                f"This table stopped after {PATIENCE} seconds: the parts work, but slowly, step by step."
            )
        finally:
            torch.set_num_threads(threads)


def three_tasks(namespace: Mapping[str, Any]) -> Any:
    """Show what span corruption does to a line, let the learner's T5 learn three tasks, and show what it answers.

    ``namespace`` is the notebook's ``globals()``.
    """
    result = tried(NAMES, namespace, lambda: _done(namespace))
    if result is None:
        return None
    shown, losses, held_out, written, model = result
    right = {
        task: sum(line == target for line, (_, target) in zip(written[task], pairs, strict=True)) / len(pairs)
        for task, pairs in held_out.items()
    }
    if shown["text"] != LINE or right[t5_tasks.TASKS[0]] < 0.5:
        return print(UNFINISHED)

    from IPython.display import display

    from scratch import t5_plots as plots

    display(plots.corruption(LINE, shown["spans"], shown["source"], shown["target"]))
    print("Put back:", " ".join(shown["text"]), "\n")
    print(f"Three tasks, one model: loss {losses[0]:.2f} before, {losses[-1]:.2f} after {STEPS} steps.")
    for task, pairs in held_out.items():
        print(f"\n{task}: {right[task]:.0%} of {len(pairs)} dates that it never saw are right to the letter")
        for (source, target), line in list(zip(pairs, written[task], strict=True))[:3]:
            print(f"  {source} → {line}" + ("" if line == target else f"   (right: {target})"))
    far = 16
    with torch.no_grad():
        ahead = model.bias("encoder", 1, 2 * far + 1, far)[
            :, 0
        ]  # (H, 1, S) -> (H, S), the query in the middle
        back = model.bias("decoder", 1, far + 1, far)[:, 0]
    return plots.bias_by_distance(
        {"your encoder": (range(-far, far + 1), ahead), "your decoder": (range(-far, 1), back)}
    )

"""Training that can be stopped at any step and gone on with as if nothing had happened (unit 13).

A checkpoint holds all that the next step depends on: weights, the optimiser's memory, the place in the data, and the
state of the random numbers that dropout draws. The best weights so far are kept beside the latest.
"""

import copy
import io
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn

from scratch.data.cache import write_whole
from scratch.optimization import Optimizer
from scratch.translation import Batch, train_step


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint, as a whole or not at all: whoever reads meanwhile finds the one before."""
    content = io.BytesIO()
    torch.save(dict(state), content)
    write_whole(path, content.getvalue())


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """Return what a checkpoint holds, tensors and plain data only; None where there is none that can be read."""
    with suppress(Exception):  # torch raises what it likes about a file that is no checkpoint
        state = torch.load(path, weights_only=True)
        return state if isinstance(state, dict) else None
    return None


class Training:
    """A model, its optimiser, its data, and how far they have come.

    ``losses`` has the loss of every step, ``scores`` the pairs (step, score) of what was measured on the way, and
    ``best`` the step of the highest score, whose weights ``keep_best`` puts back.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        batches_of: Callable[[int], Iterable[Batch]],
        loss_of: Callable[..., torch.Tensor],
        rate: Callable[[int], float],
        *,
        max_norm: float | None = None,
        seed: int = 0,
    ):
        """Begin at step 0.

        Args:
            model: called as ``model(source, read)``.
            optimizer: one of ``scratch.optimization``.
            batches_of: called with 0, 1, …, returns the batches of that epoch, always the same for the same number.
            loss_of: called as ``loss_of(logits, wanted)``.
            rate: called with 1, 2, …, returns the learning rate of that step.
            max_norm: as ``train_step`` takes it.
            seed: of the random numbers that are drawn in training, by dropout.
        """
        self.model, self.optimizer, self.batches_of = model, optimizer, batches_of
        self.loss_of, self.rate, self.max_norm = loss_of, rate, max_norm
        self.epoch = self.place = 0  # the next batch
        self.losses: list[float] = []
        self.scores: list[tuple[int, float]] = []
        self.best_weights: dict[str, torch.Tensor] = {}
        self.done = False
        self.random = torch.Generator().manual_seed(seed).get_state()

    @property
    def best(self) -> int:
        """The step of the highest score, the first of equals; 0 where nothing was measured."""
        return max(self.scores, key=lambda score: score[1], default=(0, 0.0))[0]

    def run(
        self,
        until: int,
        *,
        measure: Callable[[], float] | None = None,
        every: int = 50,
        patience: int | None = None,
        file: Path | None = None,
        show: Callable[[int, float], None] = lambda step, loss: None,
    ) -> None:
        """Go on until so many steps are done in all, or until the score no longer rises.

        Args:
            until: where to stop, counted from the very first step.
            measure: returns the score of the model as it is, higher is better.
            every: how many steps lie between two measurements, and between two checkpoints.
            patience: stop for good when so many scores in a row were no better than the best; None never does.
            file: where to save checkpoints, and one more at the end.
            show: called as ``show(step, loss)`` after every step.
        """
        with torch.random.fork_rng(devices=[]):  # the caller's random numbers go on as before
            torch.set_rng_state(self.random)
            batches = list(self.batches_of(self.epoch))
            while len(self.losses) < until and not self.done:
                if self.place == len(batches):
                    self.epoch, self.place = self.epoch + 1, 0
                    batches = list(self.batches_of(self.epoch))
                step = len(self.losses) + 1
                loss = train_step(
                    self.model, self.optimizer, batches[self.place],
                    loss_of=self.loss_of, lr=self.rate(step), max_norm=self.max_norm,
                )  # fmt: skip
                self.place += 1
                self.losses.append(loss)
                self.random = torch.get_rng_state()
                show(step, loss)
                if step % every == 0:
                    self._look(measure, every, patience)
                if file is not None and (step % every == 0 or step == until):
                    self.save(file)

    def _look(self, measure: Callable[[], float] | None, every: int, patience: int | None) -> None:
        """Measure, keep the weights if they are the best so far, and see whether it is time to stop."""
        if measure is None:
            return
        before = self.best
        self.scores.append((len(self.losses), measure()))
        if self.best != before:
            self.best_weights = copy.deepcopy(self.model.state_dict())
        self.done = patience is not None and len(self.losses) - self.best >= patience * every

    def keep_best(self) -> None:
        """Give the model the weights that scored highest, where anything was measured."""
        if self.best_weights:
            self.model.load_state_dict(self.best_weights)

    def save(self, file: Path) -> None:
        """Write a checkpoint."""
        memory = {name: value for name, value in vars(self.optimizer).items() if name != "parameters"}
        counted = {name: getattr(self, name) for name in self._COUNTED}
        save_checkpoint(file, {"model": self.model.state_dict(), "optimizer": memory, **counted})

    def load(self, file: Path) -> bool:
        """Go back to a checkpoint; return whether there was one that fits."""
        state = load_checkpoint(file)
        if state is None or {"model", "optimizer", *self._COUNTED} != set(state):
            return False
        self.model.load_state_dict(state["model"])
        vars(self.optimizer).update(state["optimizer"])
        vars(self).update({name: state[name] for name in self._COUNTED})
        return True

    _COUNTED = ("epoch", "place", "losses", "scores", "best_weights", "done", "random")

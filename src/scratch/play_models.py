"""Language models of plays, by character: the text as ids, two baselines, training, keeping weights (unit 14).

Symbols: B batch, T characters, V characters of the vocabulary, N characters of a text.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from scratch.data import cache
from scratch.optimization import AdamW, warmup_cosine
from scratch.recurrent_models import CharacterModel
from scratch.training import train

SIZES = {"max_length": 128, "d_model": 128, "heads": 4, "layers": 3}  # of the lesson's GPT


class Characters:
    """The characters of a text as a vocabulary; a character that is not in it is left out when a text is encoded."""

    def __init__(self, text: str):
        """Take the characters in the order of their codes."""
        self.characters = sorted(set(text))
        self.ids = {character: i for i, character in enumerate(self.characters)}

    def __len__(self) -> int:
        return len(self.characters)

    def encode(self, text: str) -> Int[Tensor, " N"]:
        """Return the ids of a text's characters."""
        return torch.tensor([self.ids[character] for character in text if character in self.ids])

    def decode(self, ids: Int[Tensor, " N"]) -> str:
        """Return the text."""
        return "".join(self.characters[i] for i in ids.tolist())


class Bigram(nn.Module):
    """Predict the next character from the last one alone, by counting."""

    def __init__(self, ids: Int[Tensor, " N"], size: int):
        """Count which character follows which, each pair once more than it occurs: nothing is impossible."""
        super().__init__()
        pairs = ids[:-1] * size + ids[1:]
        counts = torch.bincount(pairs, minlength=size * size).view(size, size) + 1.0
        self.register_buffer("logits", (counts / counts.sum(dim=1, keepdim=True)).log())

    def forward(self, ids: Int[Tensor, "B T"]) -> Float[Tensor, "B T V"]:
        """Return the logits of the character after each."""
        return self.logits[ids]


class _GRULayer(nn.GRU):
    """PyTorch's GRU as ``CharacterModel`` calls a layer: it computes what unit 06's does, all steps in one call."""

    def __init__(self, width: int, hidden: int):
        super().__init__(width, hidden, batch_first=True)
        self.hidden = hidden

    def start(self, size: int) -> Tensor:
        return torch.zeros(1, size, self.hidden)

    def forward(self, x: Float[Tensor, "B T D"], state: Tensor, lengths: None = None):
        return super().forward(x, state)


class Recurrent(nn.Module):
    """Unit 06's character model, each text read from its start: ``model(ids)`` returns logits."""

    def __init__(self, text: str, width: int = 64, hidden: int = 256):
        """Create the model; its vocabulary is that of ``Characters(text)``."""
        super().__init__()
        self.model = CharacterModel(_GRULayer(width, hidden), [text], width)

    def forward(self, ids: Int[Tensor, "B T"]) -> Float[Tensor, "B T V"]:
        """Return the logits of the character after each."""
        return self.model(ids, self.model.layer.start(len(ids)))[0]


def windows(
    ids: Int[Tensor, " N"], length: int, size: int, random: torch.Generator
) -> tuple[Int[Tensor, "B T"], Int[Tensor, "B T"]]:
    """Cut so many pieces out of a text at random places; return what is read, and what follows each character."""
    start = torch.randint(len(ids) - length, (size, 1), generator=random)
    pieces = ids[start + torch.arange(length + 1)]  # (B, T + 1)
    return pieces[:, :-1], pieces[:, 1:]


def held_out(ids: Int[Tensor, " N"], length: int, count: int, size: int = 50) -> list[tuple[Tensor, Tensor]]:
    """Cut so many pieces out of a text, evenly over it and none twice, in batches."""
    gap = (len(ids) - 1) // count
    if gap < length:
        raise ValueError(f"{len(ids)} characters do not hold {count} pieces of {length}")
    pieces = ids[torch.arange(count)[:, None] * gap + torch.arange(length + 1)]
    return [(part[:, :-1], part[:, 1:]) for part in pieces.split(size)]


def learn(
    model: nn.Module,
    ids: Int[Tensor, " N"],
    *,
    steps: int,
    length: int = 128,
    size: int = 8,
    peak: float = 2e-3,
    seed: int = 0,
    every: int = 50,
    after: Callable[[int], None] | None = None,
) -> list[float]:
    """Train on random pieces of a text; ``after(steps so far)`` is called every so many steps. Return the losses."""
    random = torch.Generator().manual_seed(seed)

    def data(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        return (windows(ids, length, size, random) for _ in range(min(every, steps - epoch * every)))

    return train(
        model,
        lambda model, ids, targets: F.cross_entropy(model(ids).flatten(0, 1), targets.flatten()),
        data,
        AdamW(model.parameters(), betas=(0.9, 0.98)),
        epochs=-(-steps // every),
        schedule=lambda step: warmup_cosine(
            step, peak=peak, warmup=steps // 10, total=steps, floor=peak / 20
        ),
        max_norm=1.0,
        after_epoch=None if after is None else lambda epoch: after(min(steps, (epoch + 1) * every)),
    )


def keep(model: nn.Module, name: str) -> Path:
    """Keep a model's weights in the data folder, where ``kept`` finds them; training makes them again."""
    path = cache.root() / "trained" / f"{name}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    work = path.with_suffix(".unfinished")
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, work)
    work.replace(path)
    return path


def kept(name: str) -> dict[str, Tensor] | None:
    """Return the weights that were kept under a name; None where there are none that can be read."""
    try:
        return load_file(cache.root() / "trained" / f"{name}.safetensors")
    except (OSError, SafetensorError):
        return None

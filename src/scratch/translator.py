"""A translator: a recipe, the corpus that it names, the model that it trains, and what the model writes (unit 13).

The lesson and ``python -m scratch.translate`` train by the same recipes into the same files, so that either can go on
with, or rebuild, what the other has begun. A file belongs to one recipe, one build of the data and one state of the
code: where any of these changes, training begins anew.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scratch.checkpoints import Training
from scratch.contenders import Recurrent, TorchTransformer
from scratch.data import cache, dates, numbers, pairs
from scratch.data.manifest import manifest
from scratch.data.translation import load_translation
from scratch.optimization import AdamW
from scratch.tokens import BOS, EOS, PAD, UNK, Vocabulary, pad_batch
from scratch.transformer import Transformer
from scratch.translation import Pair, bleu, label_smoothing_loss, make_batches, noam_schedule


@dataclass(frozen=True)
class Recipe:
    """All that decides what a training leads to."""

    corpus: str  # "sentences" or "dates"
    steps: int
    warmup: int
    factor: float
    d_model: int = 128
    heads: int = 4
    d_ff: int = 512
    layers: int = 2
    dropout: float = 0.1
    smoothing: float = 0.1
    max_tokens: int = 1000
    max_norm: float = 1.0
    every: int = 50  # steps from one measurement to the next
    patience: int = 6  # measurements without a better one before training stops
    seed: int = 0
    model: str = "transformer"  # or "torch", or "recurrent"


SENTENCES = Recipe("sentences", steps=800, warmup=200, factor=0.24)
DATES = Recipe(
    "dates",
    steps=1000,
    warmup=150,
    factor=0.25,
    d_model=64,
    d_ff=128,
    dropout=0.0,
    max_tokens=400,
    every=100,
    patience=3,
)
# Small enough that three models learn one after the other in a lesson.
SMALL = Recipe(
    "sentences", steps=500, warmup=150, factor=0.25, d_model=64, d_ff=128, max_tokens=400, patience=99
)


class Example(NamedTuple):
    """A text and its translation."""

    source: str
    target: str


@dataclass(frozen=True)
class Corpus:
    """Examples to learn from, to choose by and to judge by; how a text is cut into tokens, and put together again."""

    train: list[Example]
    validation: list[Example]
    held_out: list[Example]
    cut: Callable[[str], list[str]]
    glue: str  # what stands between two tokens


def load_corpus(name: str) -> Corpus:
    """Return the real sentences, or the dates and numbers; raises NotBuilt where `make data` has not been run."""
    if name == "sentences":
        data = load_translation(held_out=500, validation=100)
        parts = ([Example(p.portuguese, p.english) for p in part] for part in data[:3])
        return Corpus(*parts, cut=words, glue=" ")
    days = dates.load_dates(7_700, held_out=700 / 7_700)
    counted = numbers.load_numbers(3_300, held_out=300 / 3_300)
    train, rest = (
        [Example(p.source, p.target) for p in day] + [Example(*p) for p in number]
        for day, number in zip(days, counted, strict=True)
    )
    return Corpus(
        train, rest[:200] + rest[-300:-200], rest[200:-300] + rest[-200:], cut=dates.tokenize, glue=""
    )


def words(text: str) -> list[str]:
    """Return a text's words in lower case, without punctuation; those of a text that is no sentence too."""
    return pairs.words(text) or text.lower().split()


class Translator:
    """A vocabulary, a model, and the training that makes a translator of it.

    ``corpus``, ``vocabulary``, ``model`` and ``training`` are what it is made of.
    """

    def __init__(self, recipe: Recipe, corpus: Corpus | None = None, file: Path | None = None):
        """Take up what the recipe's file holds of the training, or begin it.

        Args:
            recipe: what to train, and how.
            corpus: None for the one that the recipe names.
            file: where checkpoints are kept; None for the file in the data's folder that belongs to the recipe.
        """
        self.recipe, self.corpus = recipe, corpus or load_corpus(recipe.corpus)
        self.file = file or weights_file(recipe)
        cut = self.corpus.cut
        self.vocabulary = Vocabulary(cut(text) for example in self.corpus.train for text in example)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            self.model = make_model(recipe, len(self.vocabulary))
        self.training = Training(
            self.model,
            AdamW(self.model.parameters(), betas=(0.9, 0.98), eps=1e-9, weight_decay=0.0),
            lambda epoch: make_batches(self.pairs, recipe.max_tokens, epoch, held_out=self.unseen),
            partial(label_smoothing_loss, smoothing=recipe.smoothing),
            partial(noam_schedule, d_model=recipe.d_model, warmup=recipe.warmup, factor=recipe.factor),
            max_norm=recipe.max_norm,
            seed=recipe.seed,
        )
        self.training.load(self.file)
        if self.finished:
            self.training.keep_best()

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to train."""
        return self.training.done or len(self.training.losses) >= self.recipe.steps

    @cached_property
    def pairs(self) -> list[Pair]:
        """The examples to learn from, as ids."""
        return [self.encode(example) for example in self.corpus.train]

    @cached_property
    def unseen(self) -> list[Pair]:
        """Those that no batch may hold, as ids."""
        return [self.encode(example) for example in self.corpus.validation + self.corpus.held_out]

    def encode(self, example: Example) -> Pair:
        """Return the ids of both sides: the source with its end, the target with beginning and end."""
        return self.read(example.source), self.vocabulary.encode(self.corpus.cut(example.target), ends=True)

    def read(self, text: str) -> list[int]:
        """Return the ids of a source, with its end."""
        return [*self.vocabulary.encode(self.corpus.cut(text.lower())), EOS]

    def train(
        self, until: int | None = None, show: Callable[[int, float], None] = lambda *_: None
    ) -> "Translator":
        """Go on with the training, up to a step or to its end; return the translator itself.

        In the end the model has the weights that were best on the validation part.
        """
        self.training.run(
            self.recipe.steps if until is None else min(until, self.recipe.steps),
            measure=lambda: self.score(self.corpus.validation)["BLEU"],
            every=self.recipe.every,
            patience=self.recipe.patience,
            file=self.file,
            show=show,
        )
        if self.finished:
            self.training.keep_best()
        return self

    def translate(self, texts: Sequence[str]) -> list[str]:
        """Return what the model writes for each text, always taking the likeliest token (greedy decoding)."""
        written = []
        for start in range(0, len(texts), 250):
            sources = [self.read(text) for text in texts[start : start + 250]]
            written += [self._text(row) for row in write(self.model, pad_batch(sources)[0])]
        return written

    def score(self, examples: Sequence[Example]) -> dict[str, float]:
        """Return the share of translations that are exactly the reference, and BLEU, from 0 to 1 and from 0 to 100."""
        texts = self.translate([example.source for example in examples])
        right = sum(text == example.target for text, example in zip(texts, examples, strict=True))
        sides = ([self.corpus.cut(text) for text in side] for side in (texts, [e.target for e in examples]))
        return {"exact": right / len(examples), "BLEU": bleu(*sides)}

    def unknown(self, text: str) -> list[str]:
        """Return the tokens of a text that the vocabulary does not know."""
        tokens = self.corpus.cut(text.lower())
        return [token for token, i in zip(tokens, self.vocabulary.encode(tokens), strict=True) if i == UNK]

    def attend(self, text: str) -> tuple[list[str], list[str], Float[Tensor, "H T S"]]:
        """Translate a text; return what was read, what was written, and the weights of the last cross-attention."""
        from scratch.transformer_plots import looked_up

        source = torch.tensor([self.read(text)])
        row = write(self.model, source)[0]
        ids = [BOS, *(row[: row.index(EOS)] if EOS in row else row)]
        with torch.no_grad():
            weights = looked_up(self.model.eval(), source, torch.tensor([ids]))
        return (
            [*self.corpus.cut(text.lower()), "⟨/s⟩"],
            [*(self.vocabulary.tokens[i] for i in ids[1:]), "⟨/s⟩"],
            weights,
        )

    def _text(self, row: Sequence[int]) -> str:
        return self.corpus.glue.join(self.vocabulary.decode(row))


def make_model(recipe: Recipe, vocabulary: int) -> nn.Module:
    """Return an untrained model of the recipe's kind and size."""
    sizes = vocabulary, recipe.d_model, recipe.heads, recipe.d_ff, recipe.layers, recipe.dropout
    if recipe.model == "transformer":
        return Transformer(*sizes, norm_first=True)
    if recipe.model == "torch":
        return TorchTransformer(*sizes)
    if recipe.model == "recurrent":
        return Recurrent(vocabulary, recipe.d_model, 2 * recipe.d_model, recipe.dropout)
    raise ValueError(f'model must be "transformer", "torch" or "recurrent", got {recipe.model!r}')


@torch.no_grad()
def write(model: nn.Module, source: Tensor, limit: int = 40) -> list[list[int]]:
    """Write a target for each source (B, S): the likeliest token, again and again, until all have ended."""
    model.eval()
    memory = model.encode(source)
    target = torch.full((len(source), 1), BOS)
    ended = torch.zeros(len(source), dtype=torch.bool)
    while target.shape[1] <= limit and not ended.all():
        token = model.decode(target, memory, source)[:, -1].argmax(dim=-1)  # (B, t, V) -> (B,)
        token = token.masked_fill(ended, PAD)
        ended |= token == EOS
        target = torch.cat([target, token[:, None]], dim=1)
    return target[:, 1:].tolist()


_CODE = (
    "attention", "checkpoints", "contenders", "layers", "multi_head_attention", "optimization", "positions", "seq2seq",
    "tokens", "transformer", "translation", "translator", "data/dates", "data/numbers", "data/pairs",
)  # fmt: skip


def weights_file(recipe: Recipe) -> Path:
    """Return where a recipe's checkpoints lie, whether or not there are any."""
    data: list[Any] = [sorted(asdict(recipe).items())]
    if recipe.corpus == "sentences":
        data.append(manifest().sets["translation"].key)
    folder = Path(__file__).parent
    data += [(folder / f"{name}.py").read_text("utf-8") for name in _CODE]
    key = hashlib.sha256(repr(data).encode()).hexdigest()[:12]
    return cache.root() / "trained" / f"{recipe.corpus}-{recipe.model}-{key}.pt"

"""``python -m scratch.translate TEXT…`` translates from Portuguese into English; ``--train`` teaches it first.

Dates and numbers go to one model, all other text to another. Errors are one line on stderr. Exit codes: 0 done, 1 not
done, 2 wrong use.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

import torch

from scratch.data.cache import DataError, told
from scratch.progress import Progress
from scratch.translator import DATES, SENTENCES, Recipe, Translator, load_corpus

RECIPES = {"dates and numbers": DATES, "sentences": SENTENCES}
TRAIN = "python -m scratch.translate --train"


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"translate: {message}; `{self.prog} --help` says what can be given\n")


def main(arguments: Sequence[str] | None = None, recipes: Mapping[str, Recipe] = RECIPES) -> int:
    """Run the command and return its exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.train == bool(options.texts):
        parser.error("give a text to translate, or --train alone")
    if any(not text.strip() for text in options.texts):
        parser.error("a text to translate is empty")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the lesson: matrices this small only wait for one another on several
    try:
        with told():
            return _train(recipes) if options.train else _translate(options.texts, recipes)
    except DataError as error:
        return _fail(str(error), 1)
    except KeyboardInterrupt:
        return _fail(f"stopped; what is done is kept, `{TRAIN}` goes on with it", 130)
    finally:
        torch.set_num_threads(threads)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m scratch.translate",
        description="Translate Portuguese into English with the Transformer of unit 13, once it is trained.",
        epilog='For instance: python -m scratch.translate "sexta-feira, 3 de abril de 2026" "abrir a porta"',
        allow_abbrev=False,
    )
    parser.add_argument(
        "texts", nargs="*", metavar="TEXT", help="a date, a number in words, or a short sentence"
    )
    parser.add_argument(
        "--train", action="store_true", help="train both models, in two to four minutes, once"
    )
    return parser


def _train(recipes: Mapping[str, Recipe]) -> int:
    for name, recipe in recipes.items():
        translator = Translator(recipe)
        if not translator.finished:
            print(f"translate: training on {name}", file=sys.stderr)
            translator.train(show=Progress(recipe.steps, notebook=False))
        score = translator.score(translator.corpus.held_out)
        print(
            f"{name}: {score['exact']:.1%} of {len(translator.corpus.held_out)} held-out texts exactly right, "
            f"BLEU {score['BLEU']:.1f}"
        )
    return 0


def _translate(texts: Sequence[str], recipes: Mapping[str, Recipe]) -> int:
    choose = chooser(recipes)
    for text in texts:
        translator = choose(text)
        if translator is None:
            return _fail(
                f"there are no trained weights yet: run `{TRAIN}`, which takes two to four minutes", 1
            )
        if unknown := translator.unknown(text):
            named = ", ".join(word.strip() for word in unknown)
            print(f"translate: never seen in training: {named}", file=sys.stderr)
        print(translator.translate([text])[0])
    return 0


def chooser(recipes: Mapping[str, Recipe] = RECIPES) -> Callable[[str], Translator | None]:
    """Return a function that picks a trained translator for a text; None where there is none.

    What has a digit, or consists of tokens of dates and numbers alone, is for the model of dates and numbers.
    """
    exact, free = recipes.values()
    known = Translator(exact, load_corpus(exact.corpus))
    others: list[Translator] = []

    def choose(text: str) -> Translator | None:
        if any(letter.isdigit() for letter in text) or not known.unknown(text):
            return known if known.finished else None
        if not others:
            others.append(Translator(free))
        return others[0] if others[0].finished else None

    return choose


def _fail(sentence: str, code: int) -> int:
    print(f"translate: {sentence}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())

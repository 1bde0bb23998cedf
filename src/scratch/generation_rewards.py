"""The last cell of unit 14: the learner's own GPT takes up trained weights, is measured, and writes."""

from collections.abc import Mapping
from typing import Any

import torch

from scratch.rewards import UNFINISHED, tried

NAMES = ("GPT", "perplexity", "sample_top_p", "generate", "beam_search")
WEIGHTS = "14_generation"  # under which the lesson keeps them
STEPS = 250  # of training, where there are none
PROMPT = "HAMLET:\n"
LINES, SEED = 4, 3


def _trained(namespace: Mapping[str, Any], plays: Any) -> tuple:
    """The learner's model with weights, what it scores, and what it writes."""
    from scratch import play_models

    text = "".join(play.text for play in plays.train)
    characters = play_models.Characters(text)
    judged = characters.encode("".join(play.text for play in plays.held_out))
    pieces = play_models.held_out(judged, 128, 40)
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):  # the notebook's own random numbers go on as before
        torch.manual_seed(0)
        torch.set_num_threads(1)  # matrices this small only wait for one another on several
        try:
            model = namespace["GPT"](len(characters), **play_models.SIZES)
            weights = play_models.kept(WEIGHTS)
            if weights is None:
                play_models.learn(model, characters.encode(text), steps=STEPS, length=64, size=16, peak=3e-3)
            else:
                model.load_state_dict(weights, strict=False)
            model.eval()
            surprise = namespace["perplexity"](model, pieces)
            random = torch.Generator().manual_seed(SEED)

            def choose(logits: torch.Tensor) -> torch.Tensor:
                return namespace["sample_top_p"](logits, torch.rand(len(logits), generator=random), 0.9, 0.8)

            prompt = characters.encode(PROMPT)[None]
            limit = play_models.SIZES["max_length"] - len(PROMPT)
            written = namespace["generate"](model, prompt.expand(LINES, -1), choose, limit=limit)
            with torch.no_grad():
                best, _ = namespace["beam_search"](lambda ids: model(ids)[:, -1], prompt, width=4, limit=60)
        finally:
            torch.set_num_threads(threads)
    return (
        weights is not None,
        surprise,
        [characters.decode(row) for row in written],
        characters.decode(best[0]),
    )


def recite(namespace: Mapping[str, Any]) -> None:
    """Measure the learner's model on plays that it has not seen, and let it write: sampled, and by beam search."""
    from scratch.data import cache
    from scratch.data.plays import load_plays

    try:
        plays = load_plays()
    except cache.DataError as error:
        return print(f"The plays are not here: {error}.")
    result = tried(NAMES, namespace, lambda: _trained(namespace, plays))
    if result is None:
        return None
    known, surprise, texts, best = result
    if not (isinstance(surprise, float) and 1 < surprise < 20):
        return print(UNFINISHED)
    source = (
        "the lesson's weights" if known else f"{STEPS} steps of training (run the lesson for better weights)"
    )
    print(
        f"Your GPT with {source}: it hesitates between {surprise:.1f} characters in plays it has not seen.\n"
    )
    for text in texts:
        print(text.rsplit(" ", 1)[0].strip(), "…\n", sep="")
    print(f"And what your beam search finds most likely:\n\n{best} …")
    return None

"""Writing with a model that predicts the next token: sampling, the cached loop, beam search (unit 14).

Symbols: B batch, T tokens so far, V vocabulary, N rows that are asked about at once, W beams.

Papers: Holtzman et al., "The Curious Case of Neural Text Degeneration", 2020 (top-p); Wu et al., "Google's Neural
    Machine Translation System", 2016 (length penalty).
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from scratch.cache import KVCache
from scratch.gpt import GPT


def sample_top_p(
    logits: Float[Tensor, "B V"], uniform: Float[Tensor, " B"], p: float = 0.9, temperature: float = 1.0
) -> Int[Tensor, " B"]:
    """Draw a token from each row, from the fewest likely tokens that together have at least probability p.

    The probabilities are the softmax of logits / temperature. The tokens of a row stand in a line, the likeliest first
    (of equals the one with the smaller id). Those at the front are kept, up to and including the one with which their
    sum reaches p; then the uniform number picks one: the first at which the sum of the kept probabilities, divided by
    their total, is greater than it. All chance is in ``uniform``.

    Args:
        logits: (B, V). They are left unchanged; an entry may be -inf.
        uniform: (B,), numbers from [0, 1), one for each row.
        p: the share to keep, 0 < p ≤ 1; with 1 every token may be drawn.
        temperature: greater than 0. Below 1 it sharpens, above 1 it flattens, before anything is cut off.

    Returns:
        (B,), int64: ids. A token of probability zero is never drawn.

    Raises:
        ValueError: p or the temperature is out of its range.

    Source: Holtzman et al., 2020, section 3.1, equations 2 and 3.
    """
    if not 0 < p <= 1 or temperature <= 0:
        raise ValueError(
            f"p must lie in (0, 1] and temperature above 0, got p={p}, temperature={temperature}"
        )
    line, ids = (logits / temperature).softmax(dim=-1).sort(dim=-1, descending=True, stable=True)
    before = line.cumsum(dim=-1) - line  # what stands in front of each token
    line = line.masked_fill(before >= p, 0.0)
    total = line.cumsum(dim=-1)
    place = (total <= uniform[:, None] * total[:, -1:]).sum(dim=-1, keepdim=True)  # (B, 1): where in the line
    return ids.gather(-1, place)[:, 0]


@torch.no_grad()
def generate(
    model: GPT,
    prompt: Int[Tensor, "B T"],
    choose: Callable[[Float[Tensor, "B V"]], Int[Tensor, " B"]],
    *,
    limit: int,
    real: Bool[Tensor, "B T"] | None = None,
    end: int | None = None,
) -> Int[Tensor, "B T+limit"]:
    """Write tokens behind prompts, one by one, and compute every position of the text only once.

    The model is first given the whole prompt, and from then on only the token written last; what attention needs of
    all others is in one ``KVCache`` for each of the model's layers, empty at the start.

    Args:
        model: called as ``model(ids, real, caches)``, as ``GPT`` is; ``model.layers`` are its layers.
        prompt: (B, T), T ≥ 1. Shorter ones are padded on the left. Left unchanged.
        choose: called with the logits (B, V) after the last position, once for each token that is written; returns the
            ids of the next tokens.
        limit: how many tokens to write.
        real: (B, T), True where the prompt has a token, False at padding. None: tokens everywhere. Left unchanged.
        end: the token that closes a text. A row that has written it is filled up with it; that it stands in a prompt
            means nothing. None: rows go on to the limit.

    Returns:
        (B, T + limit): the prompts, as they are, and what was written. The model is not asked any more once all rows
        are closed, or for a token behind the last.

    Source: Shazeer, 2019, section 2.4; Pope et al., "Efficiently Scaling Transformer Inference", 2022, section 2.1.
    """
    caches = [KVCache() for _ in model.layers]
    real = torch.ones_like(prompt, dtype=torch.bool) if real is None else real
    written, new = prompt, prompt
    closed = torch.zeros(len(prompt), dtype=torch.bool)
    for _ in range(limit):
        if closed.all():
            written = torch.cat([written, torch.full_like(new, end)], dim=1)
            continue
        new = choose(model(new, real, caches)[:, -1])  # (B, T, V) -> (B,)
        if end is not None:
            new = new.masked_fill(closed, end)
            closed = closed | (new == end)
        new = new[:, None]  # (B, 1)
        written = torch.cat([written, new], dim=1)
        real = torch.cat([real, torch.ones_like(new, dtype=torch.bool)], dim=1)
    return written


@torch.no_grad()
def beam_search(
    score: Callable[[Int[Tensor, "N T"]], Float[Tensor, "N V"]],
    prompt: Int[Tensor, "B T"],
    *,
    width: int,
    limit: int,
    end: int | None = None,
    alpha: float = 0.0,
) -> tuple[Int[Tensor, "B T+limit"], Float[Tensor, " B"]]:
    """Write behind each prompt the text that scores best among those that a beam of a given width comes across.

    A text of n written tokens, ``end`` included, scores log p / ((5 + n) / 6)^alpha, where log p sums the
    log-probabilities of these tokens. Each prompt has a beam of its own: at first the prompt alone. In every step each
    open text of the beam is continued by each token; these continuations and the closed texts, which stay as they are,
    compete, and the ``width`` best (all, if there are fewer) are the new beam.

    Args:
        score: called with ids (N, T), everything so far of N texts, prompts included, all equally long, in any order;
            returns logits (N, V) of the next token of each. What it says of closed texts does not matter.
        prompt: (B, T), T ≥ 1, without padding. Left unchanged.
        width: W, how many texts a beam holds at most.
        limit: how many steps there are at most, and so how many tokens a text gets.
        end: the token that closes a text. That it stands in a prompt means nothing. None: no text is ever closed.
        alpha: 0 compares plain log-probabilities; the more, the better for long texts.

    Returns:
        (B, T + limit): the prompts and the best text of each beam, filled up with ``end`` behind its end; and (B,),
        their scores. Nothing is asked any more once every text of every beam is closed.

    Source: Wu et al., 2016, section 7, equation 14, without the coverage penalty.
    """
    beam = prompt[:, None]  # (B, W, T), with W = 1 at first
    log_p = torch.zeros(beam.shape[:2])
    written = torch.zeros(beam.shape[:2])
    closed = torch.zeros(beam.shape[:2], dtype=torch.bool)
    scores = log_p
    for step in range(limit):
        if closed.all():
            filling = beam.new_full((*beam.shape[:2], limit - step), end)
            beam = torch.cat([beam, filling], dim=-1)
            break
        following = score(beam.flatten(0, 1)).log_softmax(dim=-1)  # (B, W, T) -> (B·W, T) -> (B·W, V)
        following = following.unflatten(0, beam.shape[:2])  # (B·W, V) -> (B, W, V)
        if end is not None:  # a closed text has one continuation, and it is certain
            stay = torch.full_like(following[0, 0], -torch.inf)
            stay[end] = 0.0
            following = torch.where(closed[..., None], stay, following)
        grown = log_p[..., None] + following  # (B, W, 1) + (B, W, V)
        written = written + ~closed
        ranked = (grown / ((5 + written[..., None]) / 6) ** alpha).flatten(1)  # (B, W, V) -> (B, W·V)
        scores, place = ranked.topk(min(width, ranked.shape[1]))  # (B, W)
        parent, token = place // following.shape[-1], place % following.shape[-1]
        log_p, written, closed = (
            grown.flatten(1).gather(1, place),
            written.gather(1, parent),
            closed.gather(1, parent),
        )
        if end is not None:
            closed = closed | (token == end)
        rows = torch.arange(len(prompt))[:, None]  # (B, 1)
        beam = torch.cat([beam[rows, parent], token[..., None]], dim=-1)  # (B, W, T) -> (B, W, T + 1)
    return beam[:, 0], scores[:, 0]


class CachedScores:
    """What ``beam_search`` asks for, from a GPT that keeps what it has read: the caches follow the beams."""

    def __init__(self, model: GPT):
        """Begin with a model that has read nothing."""
        self.model, self.ids, self.caches = model, None, []

    @torch.no_grad()
    def __call__(self, ids: Int[Tensor, "N T"]) -> Float[Tensor, "N V"]:
        """Return the logits (N, V) of the next token.

        Where every text continues one of the last call by a token, the model reads that token only.
        """
        parent = self._parent(ids)
        if parent is None:
            self.caches, new = [KVCache() for _ in self.model.layers], ids
        else:
            for cache in self.caches:
                cache.select(parent)
            new = ids[:, -1:]
        self.ids = ids
        return self.model(new, None, self.caches)[:, -1]

    def _parent(self, ids: Int[Tensor, "N T"]) -> Int[Tensor, " N"] | None:
        """For each text the row of the last call that it continues; None if one continues none."""
        if self.ids is None or self.ids.shape[1] + 1 != ids.shape[1]:
            return None
        same = (ids[:, None, :-1] == self.ids).all(dim=-1)  # (N, 1, T) and (N', T) -> (N, N')
        return same.int().argmax(dim=1) if same.any(dim=1).all() else None

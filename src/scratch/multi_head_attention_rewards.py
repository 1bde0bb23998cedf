"""The last cell of unit 09: four of the learner's heads read a sentence, each in its own way."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from scratch.rewards import UNFINISHED, tried

NAMES = ("split_heads", "merge_heads", "MultiHeadAttention", "count_parameters", "GroupedQueryAttention")
WORDS = "the dog saw the cat and the cat saw the dog".split()
KINDS = {"the": "article", "dog": "noun", "saw": "verb", "cat": "noun", "and": "conjunction"}
ROLES = ("the word before", "the word after", "the same word", "noun ↔ verb")
SHARP = 40.0  # how much more a key scores that a query looks for


def embed() -> Tensor:
    """Return the sentence (1, T, D): for each word its place, which word it is, and of which kind, one-hot each."""
    T, names, kinds = len(WORDS), list(KINDS), sorted(set(KINDS.values()))
    x = torch.zeros(1, T, 4 * T)
    for t, word in enumerate(WORDS):
        x[0, t, t] = x[0, t, T + names.index(word)] = x[0, t, T + len(names) + kinds.index(KINDS[word])] = 1
    return x


def hand_set(groups: int) -> dict[str, Tensor]:
    """Return weights for four heads that are T wide, with this many pairs of key and value heads (2 or 4).

    Two heads look for places and two for words, so that each two can share their keys. The values are places and the
    map output copies, so that what the layer returns are the weights of its heads, side by side.
    """
    T, names, kinds = len(WORDS), list(KINDS), sorted(set(KINDS.values()))
    place, meaning = slice(0, T), slice(T, 2 * T)
    noun, verb = (len(names) + kinds.index(kind) for kind in ("noun", "verb"))
    query = torch.zeros(4, T, 4 * T)
    query[0, :, place] = torch.diag(torch.full((T - 1,), SHARP), 1)  # place t asks for place t - 1
    query[1, :, place] = torch.diag(torch.full((T - 1,), SHARP), -1)
    query[2, : len(names), T : T + len(names)] = SHARP * torch.eye(len(names))
    query[3, noun, T + verb] = query[3, verb, T + noun] = SHARP
    places, meanings = torch.zeros(2, T, 4 * T)
    places[:, place] = meanings[:, meaning] = torch.eye(T)
    keys = [places, meanings] if groups == 2 else [places, places, meanings, meanings]
    return {
        "query.weight": query.flatten(0, 1),
        "key.weight": torch.cat(keys),
        "value.weight": places.repeat(groups, 1),
        "output.weight": torch.eye(4 * T),
    }


def difference(layer: type[nn.Module]) -> float:
    """How far the learner's layer is from ``nn.MultiheadAttention``, at most, on the same random weights."""
    with torch.random.fork_rng(devices=[]):  # the notebook's own random numbers go on as before
        torch.manual_seed(9)
        mine, theirs = layer(24, 4), nn.MultiheadAttention(24, 4, batch_first=True)
        x, memory = torch.randn(3, 5, 24), torch.randn(3, 7, 24)
    names = ("query", "key", "value")
    theirs.load_state_dict(
        {
            "in_proj_weight": torch.cat([getattr(mine, name).weight for name in names]).detach(),
            "in_proj_bias": torch.cat([getattr(mine, name).bias for name in names]).detach(),
            "out_proj.weight": mine.output.weight.detach(),
            "out_proj.bias": mine.output.bias.detach(),
        }
    )
    with torch.no_grad():
        return (mine(x, memory) - theirs(x, memory, memory)[0]).abs().max().item()


def four_heads(namespace: Mapping[str, Any]) -> Any:
    """Draw what four heads of the learner's layers look at, and say whether these agree with PyTorch's."""

    def look() -> tuple[list[Tensor], float, tuple[int, int]]:
        T, found = len(WORDS), []
        namespace["merge_heads"](namespace["split_heads"](torch.zeros(1, 2, 4), 2))
        for name, sizes, groups in (("MultiHeadAttention", (4,), 4), ("GroupedQueryAttention", (4, 2), 2)):
            m = namespace[name](4 * T, *sizes, **({"bias": False} if groups == 4 else {}))
            m.load_state_dict(hand_set(groups), strict=False)
            with torch.no_grad():
                found.append(m(embed())[0].unflatten(-1, (4, T)).transpose(0, 1))  # (H, T, T)
        counts = tuple(int(namespace["count_parameters"](4 * T, 4, groups, bias=False)) for groups in (4, 2))
        return found, difference(namespace["MultiHeadAttention"]), counts

    result = tried(NAMES, namespace, look)
    if result is None:
        return None
    found, off, counts = result
    if any(not torch.allclose(maps.sum(-1), torch.ones(4, len(WORDS)), atol=1e-3) for maps in found):
        return print(UNFINISHED)

    from scratch.multi_head_attention_plots import head_maps

    verdict = "agrees with" if off < 1e-5 else "differs from"
    print(
        f"Your MultiHeadAttention {verdict} nn.MultiheadAttention on the same weights, to {max(off, 1e-7):.0e}."
    )
    print(
        f"Parameters by your count: {counts[0]:,} with four pairs of keys and values, {counts[1]:,} with two."
    )
    names = ("your heads, G = 4", "your heads, G = 2")
    return head_maps(
        [(name, list(zip(ROLES, maps, strict=True))) for name, maps in zip(names, found, strict=True)], WORDS
    )

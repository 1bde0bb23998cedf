"""Splits that do not leak: what belongs together stays on one side."""

import random
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def groups(items: Sequence[Item], keys: Callable[[Item], Sequence[Hashable]]) -> list[list[Item]]:
    """Return the items in groups: two that share a key are in one, and so is whatever hangs together by others."""
    parent = list(range(len(items)))

    def top(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[Hashable, int] = {}
    for i, item in enumerate(items):
        for key in keys(item):
            a, b = top(i), top(first.setdefault(key, i))
            parent[max(a, b)] = min(a, b)
    found: dict[int, list[Item]] = {}
    for i, item in enumerate(items):
        found.setdefault(top(i), []).append(item)
    return list(found.values())


def split(
    items: Sequence[Item],
    sizes: Sequence[int],
    seed: int,
    keys: Callable[[Item], Sequence[Hashable]],
    needs: Callable[[Item], Sequence[Hashable]] = lambda item: (),
    spare: int = 0,
) -> tuple[list[Item], ...]:
    """Return what is left to train on, then parts of the given sizes, drawn group by group.

    Args:
        items: what to split; the order matters to the draw.
        sizes: how many items each part holds, exactly.
        seed: another seed, another split.
        keys: what an item shares with those that must stay on its side.
        needs: what an item is made of, such as its words.
        spare: in how many of the items to train on everything that a drawn item needs must still stand.

    Raises:
        ValueError: there are not that many items that can be set aside.
    """
    drawn = groups(items, keys)
    random.Random(seed).shuffle(drawn)  # noqa: S311 (a split, not a secret)
    left = Counter(need for item in items for need in set(needs(item)))
    parts: list[list[Item]] = [[] for _ in sizes]
    train: list[Item] = []
    for group in drawn:
        part = next((p for p, size in zip(parts, sizes, strict=True) if len(p) + len(group) <= size), None)
        uses = Counter(need for item in group for need in set(needs(item)))
        if part is None or any(left[need] - count < spare for need, count in uses.items()):
            train += group
        else:
            part += group
            left -= uses
    if [len(part) for part in parts] != list(sizes):
        raise ValueError(
            f"of {len(items):,} items, no more than {[len(p) for p in parts]} can be set aside, not {list(sizes)}"
        )
    return train, *parts

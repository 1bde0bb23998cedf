"""The keys and values kept while a model writes."""

import torch

from scratch.cache import KVCache


def pair(b: int, t: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(b, 3, t, 5), torch.randn(b, 3, t, 5)


def test_returns_and_keeps_all_positions_in_their_order():
    cache, steps = KVCache(), [pair(2, t) for t in (4, 1, 2)]
    assert len(cache) == 0
    for key, value in steps:
        all_keys, all_values = cache.append(key, value)
    assert torch.equal(all_keys, torch.cat([key for key, _ in steps], dim=-2))
    assert torch.equal(all_values, torch.cat([value for _, value in steps], dim=-2))
    assert len(cache) == 7


def test_rows_can_be_chosen_anew():
    cache = KVCache()
    cache.select(torch.tensor([0]))  # nothing is kept yet, so nothing is to do
    key, value = pair(3, 4)
    cache.append(key, value)
    cache.select(torch.tensor([2, 2, 0]))
    assert torch.equal(cache.key, key[[2, 2, 0]])
    assert torch.equal(cache.value, value[[2, 2, 0]])

"""The last cell of each unit's exercises: what the learner has built does something worth seeing.

A reward takes the notebook's ``globals()`` and uses the answers in it. Until these work it says which exercise it
waits for; it never raises.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

UNFINISHED = "This picture waits until the checks above pass."


def tried(names: Sequence[str], namespace: Mapping[str, Any], use: Callable[[], Any]) -> Any:
    """The result of ``use``, or None after saying for which of the exercises in ``names`` it waits: the first."""
    for name in names:
        if not callable(namespace.get(name)):
            return print(f"This picture waits for `{name}`, which is not written yet.")
    try:
        return use()
    except NotImplementedError as error:
        met = str(error) if str(error) in names else names[-1]
        name = next((name for name in names if _is_stub(namespace[name], name)), met)
        return print(f"This picture waits for `{name}`, which is not written yet.")
    except Exception as error:
        return print(f"{UNFINISHED} It met a {type(error).__name__}: {str(error)[:120]}")


def _is_stub(answer: Any, name: str) -> bool:
    """Whether an answer still raises the error that every exercise comes with."""
    parts = vars(answer).values() if isinstance(answer, type) else [answer]
    codes = [part.__code__ for part in parts if hasattr(part, "__code__")]
    return any(name in code.co_consts and "NotImplementedError" in code.co_names for code in codes)


WORDS = "The animal did not cross the street because it was too".split()
#                       is: living place  fits: living place  adjective pronoun
MEANING = {
    "animal": [1, 0, 0, 0, 0, 0],
    "street": [0, 1, 0, 0, 0, 0],
    "tired": [0, 0, 1, 0, 1, 0],
    "wide": [0, 0, 0, 1, 1, 0],
    "it": [0, 0, 0, 0, 0, 1],
}


def which_word(namespace: Mapping[str, Any]) -> Any:
    """Draw which word "it" refers to, by the learner's own attention on hand-set embeddings and maps.

    Two layers look one after the other. In the first, a pronoun collects what the adjectives say ("tired" fits
    something living); in the second it looks for the noun that this fits.
    """
    names = (
        "attention_scores",
        "attention_weights",
        "scaled_dot_product_attention",
        "causal_mask",
        "SelfAttention",
    )

    def look() -> torch.Tensor:
        weights = [_weights_of_it(namespace, last) for last in ("tired", "wide")]
        weights.append(_weights_of_it(namespace, "tired", namespace["causal_mask"](len(WORDS) + 1)))
        return torch.stack(weights)

    weights = tried(names, namespace, look)
    if weights is None:
        return None
    expected = (3, len(WORDS) + 1)
    if tuple(weights.shape) != expected or not torch.allclose(weights.sum(-1), torch.ones(3), atol=1e-3):
        return print(UNFINISHED)

    from scratch.plots import attention_map

    mask = torch.ones(expected, dtype=torch.bool)
    mask[2, WORDS.index("it") + 1 :] = False
    rows = ["it (… too tired)", "it (… too wide)", "it, under a causal mask"]
    title = "Which word does “it” attend to?"
    return attention_map(weights, rows, [*WORDS, "tired / wide"], mask, title=title, numbers=True)


def _weights_of_it(namespace: Mapping[str, Any], last: str, mask: torch.Tensor | None = None) -> torch.Tensor:
    """The weights (S,) that "it" gives to every word, in its second look."""
    x = torch.tensor(
        [[MEANING.get(word, [0] * 6) for word in [*WORDS, last]]], dtype=torch.float32
    )  # (1, S, D)
    collect = namespace["SelfAttention"](6, 1, 6)
    collect.load_state_dict(
        {
            "query.weight": torch.tensor([[0.0, 0, 0, 0, 0, 6]]),  # a pronoun asks
            "key.weight": torch.tensor([[0.0, 0, 0, 0, 1, 0]]),  # for adjectives
            "value.weight": torch.diag(torch.tensor([0.0, 0, 1, 1, 0, 0])),  # and takes what they fit
        }
    )
    find = namespace["SelfAttention"](6, 2, 6)
    find.load_state_dict(
        {
            "query.weight": torch.tensor(
                [[0.0, 0, 5, 0, 0, 3], [0, 0, 0, 5, 0, 3]]
            ),  # any noun, better one that fits
            "key.weight": torch.tensor([[1.0, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0]]),  # what a noun is
            "value.weight": torch.eye(6),
        }
    )
    with torch.no_grad():
        x = x + collect(x, mask)  # (1, S, D)
        scores = namespace["attention_scores"](find.query(x), find.key(x))  # (1, S, S)
        return namespace["attention_weights"](scores, mask)[0, WORDS.index("it")]

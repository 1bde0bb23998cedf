"""Tensors of Keras and TensorFlow as data like any other, so that checks are the same on every backend.

It works on the learner's side, where these objects live, in the sandbox as in a notebook. Neither package is
imported here: an object of theirs can only be met where they have been.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch


def as_tensor(value: Any) -> Any:
    """A variable of Keras's, or a tensor or variable of TensorFlow's, as a torch tensor; anything else as it is.

    On Keras's torch backend a variable is the ``nn.Parameter`` that it holds, gradient and all; what comes from
    TensorFlow is a copy without a history. What has no place in torch (texts, half-made symbols) stays an object.
    """
    keras, tensorflow = sys.modules.get("keras"), sys.modules.get("tensorflow")
    if keras is not None and _is_a(value, keras, "Variable"):
        value = value.value
    if tensorflow is None or not (_is_a(value, tensorflow, "Tensor") or _is_a(value, tensorflow, "Variable")):
        return value
    try:
        return torch.from_numpy(np.array(value.numpy()))
    except (AttributeError, NotImplementedError, TypeError, ValueError):
        return value  # a symbol inside a ``tf.function``, a text, a dtype that torch does not have


def _is_a(value: Any, module: Any, name: str) -> bool:
    kind = getattr(module, name, None)
    return isinstance(kind, type) and isinstance(value, kind)

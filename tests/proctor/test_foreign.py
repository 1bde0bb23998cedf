"""What Keras and TensorFlow compute with reaches a check as torch tensors, at both doors."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch

import scratch.backend  # noqa: F401 - before Keras

# isort: split
import keras

from proctor.foreign import as_tensor
from proctor.local import Local
from proctor.remote import Proxy
from proctor.values import Decoder, Encoder

HAS_TENSORFLOW = importlib.util.find_spec("tensorflow") is not None
needs_tensorflow = pytest.mark.skipif(
    not HAS_TENSORFLOW, reason="TensorFlow is not installed: `make test-tensorflow`"
)


def over_the_wire(value):
    """What arrives of a value."""
    encoder = Encoder(lambda value: {"str": encoder._buffer(type(value).__name__.encode())})
    tree = encoder.encode(value)
    return Decoder([bytes(part) for part in encoder.buffers]).decode(tree)


def at_home(value):
    """What a check in a notebook sees of a value."""
    return Local({"value": value}).get("value")


DOORS = pytest.mark.parametrize("see", [over_the_wire, at_home])


@DOORS
def test_a_variable_of_keras_is_a_tensor(see):
    variable = keras.Variable(np.array([[1.0, 2.0]], np.float32))
    seen = see(variable)
    assert isinstance(seen, torch.Tensor)
    assert seen.detach().tolist() == [[1.0, 2.0]]
    assert seen.requires_grad == (keras.backend.backend() == "torch")


@DOORS
def test_lists_of_variables_are_lists_of_tensors(see):
    dense = keras.layers.Dense(2)
    dense.build((None, 3))
    assert [tuple(w.shape) for w in see(dense.weights)] == [(3, 2), (2,)]


@DOORS
def test_what_a_layer_returns_is_a_tensor(see):
    seen = see(keras.ops.ones((2, 3)))
    assert isinstance(seen, torch.Tensor)
    assert tuple(seen.shape) == (2, 3)


def test_layers_and_half_made_tensors_stay_objects():
    assert isinstance(at_home(keras.layers.Dense(2)), Proxy)
    assert isinstance(at_home(keras.Input((3,))), Proxy)


def test_one_variable_in_two_places_is_one_tensor():
    variable = keras.Variable(np.zeros(2, np.float32))
    if keras.backend.backend() == "torch":
        one, two = over_the_wire([variable, variable])
        assert one is two


def test_other_values_stay_as_they_are():
    for value in (1, "text", [1.0], np.zeros(2), torch.zeros(2), object()):
        assert as_tensor(value) is value


@needs_tensorflow
@DOORS
@pytest.mark.parametrize(
    "dtype", ["bool", "int32", "int64", "uint8", "float16", "float32", "float64", "complex64"]
)
def test_tensors_of_tensorflow_keep_dtype_shape_and_numbers(see, dtype):
    import tensorflow as tf

    value = tf.cast(tf.constant([[0, 1, 2]]), dtype)
    for given in (value, tf.Variable(value)):
        seen = see(given)
        assert seen.dtype == getattr(torch, dtype)
        assert seen.numpy().tolist() == value.numpy().tolist()
        assert not seen.requires_grad


@needs_tensorflow
def test_texts_and_symbols_of_tensorflow_stay_objects():
    import tensorflow as tf

    assert isinstance(at_home(tf.constant("text")), Proxy)
    seen = []
    tf.function(lambda x: seen.append(as_tensor(x) is x))(tf.constant(1.0))
    assert seen[0]

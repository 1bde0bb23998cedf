"""The Transformer in Keras and in plain TensorFlow: the same numbers give the same outputs, and come back from a
file."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scratch import backend
from scratch.frameworks import all_logits, from_keras, numbers, to_keras, to_torch
from scratch.keras_training import MaskedLoss, NoamSchedule, train_step
from scratch.keras_transformer import Transformer as KerasTransformer
from scratch.keras_transformer import write
from scratch.transformer import Transformer

# isort: split
import keras
from keras import ops

# Keras asks NumPy for tensors in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
needs_tensorflow = pytest.mark.skipif(
    not backend.has_tensorflow(), reason="TensorFlow is not installed: `make test-tensorflow`"
)
V, D, H, F, LAYERS = 23, 12, 3, 20, 2
SOURCE = np.array([[3, 4, 5, 6, 7], [7, 8, 0, 0, 0]])
TARGET = np.array([[1, 9, 10, 11], [1, 12, 0, 0]])


@pytest.fixture
def own() -> Transformer:
    torch.manual_seed(0)
    model = Transformer(V, D, H, F, LAYERS).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


@pytest.fixture
def twin() -> KerasTransformer:
    return KerasTransformer(V, D, H, F, LAYERS)


def test_all_frameworks_agree(own, twin):
    found = all_logits(numbers(own), H, twin, SOURCE, TARGET)
    assert len(found) == 3 + backend.has_tensorflow()
    with torch.no_grad():
        right = own(torch.from_numpy(SOURCE), torch.from_numpy(TARGET)).numpy()
    for name, values in found.items():
        gap = np.abs(values - right)[TARGET != 0].max()
        assert gap < 1e-5, f"{name} differs by {gap}"


def test_weights_come_back_as_they_went(own, twin):
    weights = numbers(own)
    to_keras(weights, twin)
    back = from_keras(twin)
    assert back.keys() == weights.keys()
    for name, value in weights.items():
        assert np.array_equal(back[name], value), name


def test_every_weight_has_a_place_in_pytorch(own):
    weights = numbers(own)
    assert sum(w.numel() for w in to_torch(weights).values()) == sum(w.size for w in weights.values()) - V * D


def test_padding_of_the_source_changes_nothing(own, twin):
    to_keras(numbers(own), twin)
    longer = np.pad(SOURCE, ((0, 0), (0, 3)))
    short, long = (ops.convert_to_numpy(twin((source, TARGET)))[TARGET != 0] for source in (SOURCE, longer))
    assert np.abs(short - long).max() < 1e-5


def test_a_saved_model_comes_back_equal(twin, tmp_path):
    optimizer = keras.optimizers.Adam(NoamSchedule(D, 10))
    twin.compile(optimizer=optimizer, loss=MaskedLoss(smoothing=0.1), jit_compile=False)
    twin.fit((SOURCE, TARGET[:, :-1]), TARGET[:, 1:], epochs=2, verbose=0)
    twin.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    one, two = (ops.convert_to_numpy(model((SOURCE, TARGET))) for model in (twin, again))
    assert np.array_equal(one, two)
    assert again.optimizer.get_config()["learning_rate"]["config"] == NoamSchedule(D, 10).get_config()
    assert again.loss.smoothing == 0.1


def test_a_step_by_hand_is_a_step_of_fit(own):
    first, second = (KerasTransformer(V, D, H, F, LAYERS, dropout=0.0) for _ in range(2))
    for model in (first, second):
        to_keras(numbers(own), model)
    first.compile(optimizer=keras.optimizers.SGD(0.1), loss=MaskedLoss(), jit_compile=False)
    told = first.train_on_batch((SOURCE, TARGET[:, :-1]), TARGET[:, 1:])
    value = train_step(
        second, keras.optimizers.SGD(0.1), MaskedLoss(), (SOURCE, TARGET[:, :-1]), TARGET[:, 1:]
    )
    assert float(told) == pytest.approx(float(ops.convert_to_numpy(value)), rel=1e-5)
    for name, one in from_keras(first).items():
        assert np.allclose(one, from_keras(second)[name], atol=1e-6), name


def test_writing_stops_where_every_sentence_has_ended(twin):
    assert write(twin, SOURCE, length=4).shape[1] <= 5


def test_the_environment_is_left_as_it_was_set():
    import os

    assert os.environ["KERAS_BACKEND"] == keras.backend.backend()
    assert os.environ["KERAS_HOME"] == os.devnull or "KERAS_HOME" in os.environ


@needs_tensorflow
def test_a_step_in_plain_tensorflow_is_gradient_descent(own):
    import tensorflow as tf

    from scratch.tensorflow_transformer import Transformer as Plain
    from scratch.tensorflow_transformer import train_step as plain_step

    plain = Plain(numbers(own), H)
    loss = float(plain_step(plain, SOURCE, TARGET, tf.constant(0.1)))
    source, target = torch.from_numpy(SOURCE), torch.from_numpy(TARGET)
    logits = own(source, target[:, :-1])
    right = torch.nn.functional.cross_entropy(logits.flatten(0, 1), target[:, 1:].flatten(), ignore_index=0)
    right.backward()
    assert loss == pytest.approx(right.item(), rel=1e-5)
    for name, parameter in own.named_parameters():
        moved = (parameter - 0.1 * parameter.grad).detach().numpy()
        assert np.allclose(plain.weights[name].numpy(), moved, atol=1e-5), name

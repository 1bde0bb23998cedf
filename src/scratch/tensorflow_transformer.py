"""The Transformer of 2017 in plain TensorFlow: tensors, variables, ``tf.function`` and ``GradientTape`` (unit 15).

Nothing of Keras is used. It needs TensorFlow, which the extra ``tensorflow`` installs. Weights have the names that
they have in ``scratch.transformer``, so that the same numbers can be loaded.

Symbols: B batch, S source length, T target length, D model width, H heads, K head width, V vocabulary.

Paper: Vaswani et al., "Attention Is All You Need", 2017, section 3.
"""

import math
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from scratch.positions import sinusoidal_encoding


class Transformer(tf.Module):
    """Read a source, and say for every position of a target which token comes next, by plain TensorFlow operations.

    ``weights`` maps names to ``tf.Variable``s: (out, in) for a linear map, as in PyTorch. Post-norm; there is no
    dropout.
    """

    def __init__(self, weights: Mapping[str, np.ndarray], heads: int, pad: int = 0, longest: int = 256):
        """Make a variable of each weight.

        Args:
            weights: by the names of ``scratch.transformer.Transformer``, as ``scratch.frameworks.numbers`` returns
                them.
            heads: H.
            pad: the id of the padding token, which nobody attends to.
            longest: the length of the longest sequence to come.
        """
        super().__init__()
        self.heads, self.pad = heads, pad
        self.weights = {
            name: tf.Variable(value, name=name.replace(".", "_")) for name, value in weights.items()
        }
        width = weights["embedding.weight"].shape[1]
        self.positions = tf.constant(sinusoidal_encoding(longest, width).numpy())
        self.count = 1 + max(
            int(name.split(".")[2]) for name in weights if name.startswith("encoder.layers.")
        )

    def linear(self, name: str, x):
        """Return x Wᵀ + b."""
        return tf.matmul(x, self.weights[f"{name}.weight"], transpose_b=True) + self.weights[f"{name}.bias"]

    def norm(self, name: str, x):
        """Bring every row to mean zero and variance one, then stretch and shift it."""
        mean, variance = tf.nn.moments(x, axes=[-1], keepdims=True)  # (B, T, 1)
        return (x - mean) * tf.math.rsqrt(variance + 1e-5) * self.weights[f"{name}.weight"] + self.weights[
            f"{name}.bias"
        ]

    def attend(self, name: str, x, memory, mask):
        """Attend from x (B, T, D) to memory (B, S, D) where the mask, (B, T, S) or wider, is True."""

        def split(part, rows):
            rows, shape = self.linear(f"{name}.{part}", rows), tf.shape(rows)
            rows = tf.reshape(rows, (shape[0], shape[1], self.heads, width))  # (B, T, D) -> (B, T, H, K)
            return tf.transpose(rows, (0, 2, 1, 3))  # (B, T, H, K) -> (B, H, T, K)

        width = self.positions.shape[1] // self.heads  # K
        query, key, value = split("query", x), split("key", memory), split("value", memory)
        scores = tf.matmul(query, key, transpose_b=True) / math.sqrt(width)  # (B, H, T, S)
        scores = tf.where(mask[:, None], scores, scores.dtype.min)
        found = tf.transpose(tf.matmul(tf.nn.softmax(scores), value), (0, 2, 1, 3))  # (B, T, H, K)
        return self.linear(f"{name}.output", tf.reshape(found, tf.shape(x)))  # (B, T, H, K) -> (B, T, D)

    def think(self, name: str, x):
        """Apply the feed-forward net to every row."""
        return self.linear(f"{name}.output", tf.nn.relu(self.linear(f"{name}.hidden", x)))

    def embed(self, ids):
        """Look ids up, scale by √D, add sinusoids: (B, T) -> (B, T, D)."""
        table = self.weights["embedding.weight"]
        x = tf.gather(table, ids) * math.sqrt(table.shape[1])
        return x + self.positions[: tf.shape(ids)[1]]  # (B, T, D) + (T, D)

    def encode(self, source):
        """Turn the source (B, S) into the memory (B, S, D)."""
        x, mask = self.embed(source), (source != self.pad)[:, None]
        for i in range(self.count):
            name = f"encoder.layers.{i}."
            x = self.norm(f"{name}attention_residual.norm", x + self.attend(f"{name}attention", x, x, mask))
            x = self.norm(f"{name}feed_forward_residual.norm", x + self.think(f"{name}feed_forward", x))
        return x

    @tf.function(reduce_retracing=True)
    def __call__(self, source, target):
        """Score the token after each target position: ids (B, S) and (B, T) give logits (B, T, V)."""
        memory, memory_mask = self.encode(source), (source != self.pad)[:, None]
        x, length = self.embed(target), tf.shape(target)[1]
        causal = tf.linalg.band_part(tf.ones((length, length), tf.bool), -1, 0)  # (T, T)
        mask = (target != self.pad)[:, None] & causal  # (B, 1, T) and (T, T) -> (B, T, T)
        for i in range(self.count):
            name = f"decoder.layers.{i}."
            found = self.attend(f"{name}self_attention", x, x, mask)
            x = self.norm(f"{name}self_attention_residual.norm", x + found)
            found = self.attend(f"{name}cross_attention", x, memory, memory_mask)
            x = self.norm(f"{name}cross_attention_residual.norm", x + found)
            x = self.norm(f"{name}feed_forward_residual.norm", x + self.think(f"{name}feed_forward", x))
        return tf.matmul(x, self.weights["embedding.weight"], transpose_b=True)  # (B, T, D) @ (D, V)


def masked_loss(labels, logits, pad: int = 0):
    """Return the mean cross-entropy over the labels (B, T) that are no padding, from logits (B, T, V)."""
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)  # (B, T)
    real = tf.cast(labels != pad, losses.dtype)
    return tf.reduce_sum(losses * real) / tf.maximum(tf.reduce_sum(real), 1)


@tf.function(reduce_retracing=True)
def train_step(model: Transformer, source, target, rate):
    """Take one step of plain gradient descent on a batch (B, S), (B, T); return the loss before it."""
    with tf.GradientTape() as tape:
        loss = masked_loss(target[:, 1:], model(source, target[:, :-1]))
    for variable, gradient in zip(
        model.trainable_variables, tape.gradient(loss, model.trainable_variables), strict=True
    ):
        variable.assign_sub(rate * tf.convert_to_tensor(gradient))
    return loss

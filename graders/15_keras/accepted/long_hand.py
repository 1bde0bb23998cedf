"""Masks handed on by hand, sub-layers built in ``build``, losses and rates spelt out."""

import keras
import numpy as np
from keras import layers, ops


class PositionalEmbedding(layers.Layer):
    """A table of positions, made once and cut to length."""

    def __init__(self, vocabulary, d_model, dropout=0.1, **kwargs):
        super().__init__(**kwargs)
        self.vocabulary = vocabulary
        self.d_model = d_model
        self.rate = dropout
        self.embedding = layers.Embedding(vocabulary, d_model, mask_zero=True)
        self.dropout = layers.Dropout(dropout)
        position = np.arange(512)[:, None]
        angle = position / 10000 ** (2 * (np.arange(d_model) // 2) / d_model)
        self.table = np.where(np.arange(d_model) % 2 == 0, np.sin(angle), np.cos(angle)).astype("float32")

    def build(self, input_shape):
        self.embedding.build(input_shape)
        self.built = True

    def compute_mask(self, ids, mask=None):
        return ops.not_equal(ids, 0)

    def call(self, ids, training=None):
        length = ids.shape[1]
        x = ops.multiply(self.embedding(ids), self.d_model**0.5)
        x = ops.add(x, self.table[None, :length])
        return self.dropout(x, training=training)

    def get_config(self):
        config = super().get_config()
        config.update(vocabulary=self.vocabulary, d_model=self.d_model, dropout=self.rate)
        return config


class CausalSelfAttention(layers.Layer):
    """The causal mask made by hand and joined with the padding's."""

    def __init__(self, d_model, heads, dropout=0.1, **kwargs):
        super().__init__(**kwargs)
        self.d_model, self.heads, self.rate = d_model, heads, dropout
        self.attention = layers.MultiHeadAttention(num_heads=heads, key_dim=d_model // heads)
        self.dropout = layers.Dropout(dropout)
        self.norm = layers.LayerNormalization(epsilon=1e-5)

    def compute_mask(self, x, mask=None):
        return mask

    def call(self, x, mask=None, training=None):
        size = x.shape[1]
        allowed = ops.cast(ops.tril(ops.ones((size, size))), "bool")[None]
        if mask is not None:
            allowed = ops.logical_and(allowed, ops.cast(mask, "bool")[:, None, :])
        found = self.attention(query=x + 0, value=x + 0, key=x + 0, attention_mask=allowed, training=training)
        return self.norm(x + self.dropout(found, training=training))

    def get_config(self):
        return super().get_config() | {"d_model": self.d_model, "heads": self.heads, "dropout": self.rate}


class EncoderLayer(layers.Layer):
    """The mask as an argument; ``layers.Add`` for the sums."""

    def __init__(self, d_model, heads, d_ff, dropout=0.1, **kwargs):
        super().__init__(**kwargs)
        self.config = {"d_model": d_model, "heads": heads, "d_ff": d_ff, "dropout": dropout}
        self.attention = layers.MultiHeadAttention(heads, d_model // heads)
        self.attention_norm = layers.LayerNormalization(epsilon=1e-5)
        self.feed_forward = keras.Sequential()
        self.feed_forward.add(layers.Dense(d_ff))
        self.feed_forward.add(layers.ReLU())
        self.feed_forward.add(layers.Dense(d_model))
        self.feed_forward_norm = layers.LayerNormalization(epsilon=1e-5)
        self.dropout = layers.Dropout(dropout)
        self.add = layers.Add()
        self.supports_masking = True

    def call(self, x, mask=None):
        allowed = None if mask is None else mask[:, None]
        found = self.dropout(self.attention(x, x, attention_mask=allowed))
        x = self.attention_norm(self.add([x, found]))
        found = self.dropout(self.feed_forward(x))
        return self.feed_forward_norm(self.add([x, found]))

    def get_config(self):
        return {**super().get_config(), **self.config}


class DecoderLayer(layers.Layer):
    """The memory's mask as an attention mask, wide enough to broadcast."""

    def __init__(self, d_model, heads, d_ff, dropout=0.1, **kwargs):
        super().__init__(**kwargs)
        self.config = {"d_model": d_model, "heads": heads, "d_ff": d_ff, "dropout": dropout}
        self.self_attention = CausalSelfAttention(d_model, heads, dropout=dropout)
        self.cross_attention = layers.MultiHeadAttention(heads, d_model // heads)
        self.cross_attention_norm = layers.LayerNormalization(epsilon=1e-5)
        self.feed_forward = keras.Sequential([layers.Dense(d_ff, "relu"), layers.Dense(d_model)])
        self.feed_forward_norm = layers.LayerNormalization(epsilon=1e-5)
        self.dropout = layers.Dropout(dropout)
        self.supports_masking = True

    def call(self, x, memory, memory_mask=None):
        x = self.self_attention(x)
        allowed = None if memory_mask is None else ops.expand_dims(memory_mask, 1)
        found = self.cross_attention(query=x, key=memory, value=memory, attention_mask=allowed)
        x = self.cross_attention_norm(layers.add([x, self.dropout(found)]))
        return self.feed_forward_norm(layers.add([x, self.dropout(self.feed_forward(x))]))

    def get_config(self):
        return {**super().get_config(), **self.config}


class MaskedLoss(keras.losses.Loss):
    """One-hot targets, mixed with the uniform distribution."""

    def __init__(self, pad=0, smoothing=0.0, name="masked_loss", **kwargs):
        super().__init__(name=name, **kwargs)
        self.pad, self.smoothing = pad, smoothing

    def call(self, y_true, y_pred):
        y_true = ops.cast(y_true, "int64")
        vocabulary = y_pred.shape[-1]
        target = ops.one_hot(y_true, vocabulary) * (1 - self.smoothing) + self.smoothing / vocabulary
        losses = keras.losses.categorical_crossentropy(target, y_pred, from_logits=True)
        mask = ops.cast(ops.not_equal(y_true, self.pad), losses.dtype)
        return ops.divide_no_nan(ops.sum(losses * mask), ops.sum(mask))

    def get_config(self):
        config = super().get_config()
        config["pad"] = self.pad
        config["smoothing"] = self.smoothing
        return config


class NoamSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """Rising and falling as two cases."""

    def __init__(self, d_model, warmup=4000, factor=1.0):
        super().__init__()
        self.d_model = d_model
        self.warmup = warmup
        self.factor = factor

    def __call__(self, step):
        n = ops.add(ops.cast(step, "float32"), 1.0)
        rising = n / self.warmup**1.5
        falling = ops.rsqrt(n)
        rate = ops.where(n < self.warmup, rising, falling)
        return rate * self.factor / self.d_model**0.5

    def get_config(self):
        return {"d_model": self.d_model, "warmup": self.warmup, "factor": self.factor}


def train_step(model, optimizer, loss, inputs, targets):
    """Gradients asked for one by one."""
    variables = model.trainable_variables
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            outputs = model(inputs, training=True)
            value = loss(targets, outputs)
            for penalty in model.losses:
                value = value + penalty
        gradients = tape.gradient(value, variables)
    else:
        import torch

        outputs = model(inputs, training=True)
        value = loss(targets, outputs)
        for penalty in model.losses:
            value = value + penalty
        gradients = torch.autograd.grad(value, [v.value for v in variables])
    optimizer.apply(list(gradients), variables)
    return value

"""In the style of TensorFlow's tutorial: ``layers.Add``, sub-layers that carry masks, a function behind the loss."""

import keras
import numpy as np
import torch
from keras import layers, ops

from scratch.positions import sinusoidal_encoding


class PositionalEmbedding(layers.Layer):
    """Embedding, scale, positions."""

    def __init__(self, vocabulary, d_model, dropout=0.1, **kwargs):
        super().__init__(**kwargs)
        self.settings = {"vocabulary": vocabulary, "d_model": d_model, "dropout": dropout}
        self.embedding = layers.Embedding(input_dim=vocabulary, output_dim=d_model, mask_zero=True)
        self.dropout = layers.Dropout(dropout)
        self.pos_encoding = sinusoidal_encoding(2048, d_model).numpy().astype("float32")

    def compute_mask(self, *args, **kwargs):
        return self.embedding.compute_mask(*args, **kwargs)

    def call(self, x):
        length = ops.shape(x)[1]
        x = self.embedding(x)
        x = x * ops.sqrt(ops.cast(self.settings["d_model"], "float32"))
        x = x + ops.convert_to_tensor(self.pos_encoding[np.newaxis, :length, :])
        return self.dropout(x)

    def get_config(self):
        return super().get_config() | self.settings


class CausalSelfAttention(layers.Layer):
    """Multi-head attention, Add, norm."""

    def __init__(self, d_model, heads, dropout=0.1, **kwargs):
        super().__init__(**kwargs)
        self.settings = {"d_model": d_model, "heads": heads, "dropout": dropout}
        self.attention = layers.MultiHeadAttention(num_heads=heads, key_dim=d_model // heads)
        self.norm = layers.LayerNormalization(epsilon=1e-5)
        self.add = layers.Add()
        self.dropout = layers.Dropout(dropout)
        self.supports_masking = True

    def call(self, x):
        attn_output = self.attention(query=x, value=x, key=x, use_causal_mask=True)
        x = self.add([x, self.dropout(attn_output)])
        return self.norm(x)

    def get_config(self):
        return super().get_config() | self.settings


class EncoderLayer(layers.Layer):
    """Two sub-layers."""

    def __init__(self, d_model, heads, d_ff, dropout=0.1, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.settings = {"d_model": d_model, "heads": heads, "d_ff": d_ff, "dropout": dropout}
        self.attention = layers.MultiHeadAttention(num_heads=heads, key_dim=d_model // heads)
        self.attention_norm = layers.LayerNormalization(epsilon=1e-5)
        self.feed_forward = keras.Sequential(
            [layers.Dense(d_ff, activation="relu"), layers.Dense(d_model), layers.Dropout(dropout)]
        )
        self.feed_forward_norm = layers.LayerNormalization(epsilon=1e-5)
        self.dropout = layers.Dropout(dropout)
        self.add = layers.Add()

    def call(self, x):
        x = self.attention_norm(self.add([x, self.dropout(self.attention(query=x, value=x, key=x))]))
        return self.feed_forward_norm(self.add([x, self.feed_forward(x)]))

    def get_config(self):
        return super().get_config() | self.settings


class DecoderLayer(layers.Layer):
    """Three sub-layers."""

    def __init__(self, d_model, heads, d_ff, dropout=0.1, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.settings = {"d_model": d_model, "heads": heads, "d_ff": d_ff, "dropout": dropout}
        self.self_attention = CausalSelfAttention(d_model=d_model, heads=heads, dropout=dropout)
        self.cross_attention = layers.MultiHeadAttention(num_heads=heads, key_dim=d_model // heads)
        self.cross_attention_norm = layers.LayerNormalization(epsilon=1e-5)
        self.feed_forward = keras.Sequential([layers.Dense(d_ff, activation=ops.relu), layers.Dense(d_model)])
        self.feed_forward_norm = layers.LayerNormalization(epsilon=1e-5)
        self.dropout = layers.Dropout(dropout)
        self.add = layers.Add()

    def call(self, x, memory, memory_mask=None):
        x = self.self_attention(x)
        found = self.cross_attention(
            query=x, key=memory, value=memory, key_mask=memory_mask, value_mask=memory_mask
        )
        x = self.cross_attention_norm(self.add([x, self.dropout(found)]))
        return self.feed_forward_norm(self.add([x, self.dropout(self.feed_forward(x))]))

    def get_config(self):
        return super().get_config() | self.settings


class MaskedLoss(keras.losses.Loss):
    """Keras's cross-entropy, masked afterwards."""

    def __init__(self, pad=0, smoothing=0.0, name="masked_loss", **kwargs):
        super().__init__(name=name, **kwargs)
        self.pad = pad
        self.smoothing = smoothing

    def call(self, label, pred):
        label = ops.cast(label, "int32")
        mask = ops.cast(ops.not_equal(label, self.pad), "float32")
        loss = keras.losses.sparse_categorical_crossentropy(label, pred, from_logits=True)
        uniform = -ops.mean(ops.log_softmax(pred), axis=-1)
        loss = ((1 - self.smoothing) * loss + self.smoothing * uniform) * mask
        count = ops.sum(mask)
        return ops.where(count > 0, ops.sum(loss) / ops.maximum(count, 1.0), 0.0)

    def get_config(self):
        return super().get_config() | {"pad": self.pad, "smoothing": self.smoothing}


class NoamSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """As in the tutorial, one step later."""

    def __init__(self, d_model, warmup=4000, factor=1.0):
        super().__init__()
        self.d_model, self.warmup, self.factor = d_model, warmup, factor

    def __call__(self, step):
        step = ops.cast(step, dtype="float32") + 1.0
        arg1 = ops.rsqrt(step)
        arg2 = step * (self.warmup**-1.5)
        return self.factor * ops.rsqrt(ops.cast(self.d_model, "float32")) * ops.minimum(arg1, arg2)

    def get_config(self):
        return {"d_model": self.d_model, "warmup": self.warmup, "factor": self.factor}


def train_step(model, optimizer, loss, inputs, targets):
    """PyTorch alone: what this notebook runs on."""
    for variable in model.trainable_variables:
        variable.value.grad = None
    outputs = model(inputs, training=True)
    value = loss(targets, outputs) + sum(model.losses)
    value.backward()
    gradients = [variable.value.grad for variable in model.trainable_variables]
    with torch.no_grad():
        optimizer.apply(gradients, model.trainable_variables)
    return value.detach()

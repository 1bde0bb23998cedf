"""The layers of a Transformer in Keras 3: embedding with positions, attention, encoder and decoder layer (unit 15).

They hold the same numbers as the layers of ``scratch.layers`` and ``scratch.transformer`` (post-norm, as in 2017)
and return the same outputs, on every backend of Keras. Padding is not handed on by hand: tensors carry a mask, (B,
T), True where a real token stands, which Keras's attention reads.

Symbols: B batch, S source length, T target length, D model width, H heads, F inner width of the feed-forward nets.

Paper: Vaswani et al., "Attention Is All You Need", 2017, section 3.
"""

import math
from typing import Any

import keras
from keras import layers, ops

from scratch.positions import sinusoidal_encoding


class PositionalEmbedding(layers.Layer):
    """Look ids up, scale the vectors by √D, add sinusoids; the output carries the mask of what is no padding.

    Its sub-layers are ``embedding``, a ``keras.layers.Embedding`` of V rows, and ``dropout``, a
    ``keras.layers.Dropout``: these names are part of the contract.

    Source: Vaswani et al., 2017, sections 3.4 (scale), 3.5 (positions), 5.4 (dropout).
    """

    def __init__(self, vocabulary: int, d_model: int, dropout: float = 0.1, **kwargs: Any):
        """Create ``embedding``, in which id 0 is padding, and ``dropout``.

        Args:
            vocabulary: V.
            d_model: D.
            dropout: the share of entries that is zeroed in training, after the positions are added.
            kwargs: what every Keras layer takes, such as its name.
        """
        super().__init__(**kwargs)
        self.vocabulary, self.d_model, self.rate = vocabulary, d_model, dropout
        self.embedding = layers.Embedding(vocabulary, d_model, mask_zero=True)
        self.dropout = layers.Dropout(dropout)

    def call(self, ids):
        """Return √D · embedding of ids + positions 0, 1, 2, …, through the dropout: (B, T) -> (B, T, D).

        Positions are those of ``sinusoidal_encoding(T, D)``, a torch tensor.
        """
        x = self.embedding(ids) * math.sqrt(self.d_model)  # (B, T) -> (B, T, D)
        positions = sinusoidal_encoding(ids.shape[1], self.d_model).numpy()  # (T, D)
        return self.dropout(x + ops.cast(positions, x.dtype))

    def compute_mask(self, ids, mask=None):
        """Return where ids are no padding: (B, T), boolean. Keras calls this, and hangs the result on the output."""
        return self.embedding.compute_mask(ids)

    def get_config(self) -> dict[str, Any]:
        """Return what ``__init__`` needs to make this layer again: ``cls(**layer.get_config())``."""
        own = {"vocabulary": self.vocabulary, "d_model": self.d_model, "dropout": self.rate}
        return {**super().get_config(), **own}


class CausalSelfAttention(layers.Layer):
    """Let every position look at itself and what came before, add what it found to what came in, and norm the sum.

    Its sub-layers are ``attention``, a ``keras.layers.MultiHeadAttention``; ``dropout``, a ``keras.layers.Dropout``;
    and ``norm``, a ``keras.layers.LayerNormalization``: these names are part of the contract.

    Source: Vaswani et al., 2017, sections 3.1, 3.2 and 5.4.
    """

    def __init__(self, d_model: int, heads: int, dropout: float = 0.1, **kwargs: Any):
        """Create the three sub-layers.

        Args:
            d_model: D.
            heads: H, which divides D; a head is D / H wide.
            dropout: the share of the attention's result that is zeroed in training, before it is added.
            kwargs: what every Keras layer takes, such as its name.
        """
        super().__init__(**kwargs)
        self.d_model, self.heads, self.rate = d_model, heads, dropout
        self.attention = layers.MultiHeadAttention(heads, d_model // heads)
        self.dropout = layers.Dropout(dropout)
        self.norm = layers.LayerNormalization(epsilon=1e-5)
        self.supports_masking = True

    def call(self, x):
        """Return norm(x + dropout(attention of x to x, up to itself)): (B, T, D) -> (B, T, D).

        Nobody attends to what the mask that x carries calls padding, and the output carries the same mask. The norm
        adds 1e-5 to the variance.
        """
        found = self.attention(x, x, use_causal_mask=True)
        return self.norm(x + self.dropout(found))

    def get_config(self) -> dict[str, Any]:
        """Return what ``__init__`` needs to make this layer again: ``cls(**layer.get_config())``."""
        own = {"d_model": self.d_model, "heads": self.heads, "dropout": self.rate}
        return {**super().get_config(), **own}


class EncoderLayer(layers.Layer):
    """Look at all positions, then think: two sub-layers, each with dropout, residual connection and norm.

    Its sub-layers are ``attention`` and ``feed_forward``, ``attention_norm`` and ``feed_forward_norm``, and
    ``dropout``, which is there once and used twice: these names are part of the contract.

    Source: Vaswani et al., 2017, sections 3.1 and 3.3.
    """

    def __init__(self, d_model: int, heads: int, d_ff: int, dropout: float = 0.1, **kwargs: Any):
        """Create the sub-layers: ``feed_forward`` is a ``keras.Sequential`` of two ``Dense``, ReLU after the first.

        Args:
            d_model: D.
            heads: H, which divides D; a head is D / H wide.
            d_ff: F, the inner width of the feed-forward net.
            dropout: the share of each sub-layer's result that is zeroed in training, before it is added.
            kwargs: what every Keras layer takes, such as its name.
        """
        super().__init__(**kwargs)
        self.d_model, self.heads, self.d_ff, self.rate = d_model, heads, d_ff, dropout
        self.attention = layers.MultiHeadAttention(heads, d_model // heads)
        self.attention_norm = layers.LayerNormalization(epsilon=1e-5)
        self.feed_forward = keras.Sequential([layers.Dense(d_ff, activation="relu"), layers.Dense(d_model)])
        self.feed_forward_norm = layers.LayerNormalization(epsilon=1e-5)
        self.dropout = layers.Dropout(dropout)
        self.supports_masking = True

    def call(self, x):
        """Return x, (B, T, D), after self-attention and feed-forward net, each as norm(x + dropout(sublayer(x))).

        Nobody attends to what the mask that x carries calls padding, and the output carries the same mask. The norms
        add 1e-5 to the variance.
        """
        x = self.attention_norm(x + self.dropout(self.attention(x, x)))
        return self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))

    def get_config(self) -> dict[str, Any]:
        """Return what ``__init__`` needs to make this layer again: ``cls(**layer.get_config())``."""
        own = {"d_model": self.d_model, "heads": self.heads, "d_ff": self.d_ff, "dropout": self.rate}
        return {**super().get_config(), **own}


class DecoderLayer(layers.Layer):
    """Look back, look across at the memory, think: three sub-layers, each with dropout, residual connection and norm.

    Its sub-layers are ``self_attention``, a ``CausalSelfAttention``, which has a residual connection and a norm of
    its own; ``cross_attention`` and ``cross_attention_norm``; ``feed_forward`` and ``feed_forward_norm``; and
    ``dropout``: these names are part of the contract.

    Source: Vaswani et al., 2017, section 3.1.
    """

    def __init__(self, d_model: int, heads: int, d_ff: int, dropout: float = 0.1, **kwargs: Any):
        """Create the sub-layers; the arguments are those of ``EncoderLayer``."""
        super().__init__(**kwargs)
        self.d_model, self.heads, self.d_ff, self.rate = d_model, heads, d_ff, dropout
        self.self_attention = CausalSelfAttention(d_model, heads, dropout)
        self.cross_attention = layers.MultiHeadAttention(heads, d_model // heads)
        self.cross_attention_norm = layers.LayerNormalization(epsilon=1e-5)
        self.feed_forward = keras.Sequential([layers.Dense(d_ff, activation="relu"), layers.Dense(d_model)])
        self.feed_forward_norm = layers.LayerNormalization(epsilon=1e-5)
        self.dropout = layers.Dropout(dropout)
        self.supports_masking = True

    def call(self, x, memory, memory_mask=None):
        """Return x, (B, T, D), after self-attention, attention to the memory (B, S, D), and feed-forward net.

        Args:
            x: (B, T, D), the target side; it may carry a mask, and the output carries the same.
            memory: (B, S, D), what the encoder made of the source.
            memory_mask: (B, S), boolean, True where the memory may be attended to. Where it is not given, Keras puts
                the mask here that the memory carries, if any.
        """
        x = self.self_attention(x)
        found = self.cross_attention(x, memory, value_mask=memory_mask)
        x = self.cross_attention_norm(x + self.dropout(found))
        return self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))

    def get_config(self) -> dict[str, Any]:
        """Return what ``__init__`` needs to make this layer again: ``cls(**layer.get_config())``."""
        own = {"d_model": self.d_model, "heads": self.heads, "d_ff": self.d_ff, "dropout": self.rate}
        return {**super().get_config(), **own}


# By these names a saved model finds its classes when it is loaded.
for _layer in (PositionalEmbedding, CausalSelfAttention, EncoderLayer, DecoderLayer):
    keras.saving.register_keras_serializable("scratch")(_layer)

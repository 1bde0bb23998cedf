"""The Transformer of 2017 as a Keras model, and how it writes (unit 15).

Symbols: B batch, S source length, T target length, V vocabulary.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from scratch.data.dates import BEGIN, END, Codec, Pair
from scratch.keras_layers import DecoderLayer, EncoderLayer, PositionalEmbedding


@keras.saving.register_keras_serializable("scratch")
class Transformer(keras.Model):
    """Read a source, and say for every position of a target which token comes next, as ``scratch.transformer`` does.

    One ``PositionalEmbedding``, ``embedding``, embeds source and target; its table, turned round, makes the logits.
    ``parts`` are the classes of the layers: a subclass may have others.
    """

    parts = (PositionalEmbedding, EncoderLayer, DecoderLayer)

    def __init__(
        self,
        vocabulary: int,
        d_model: int = 512,
        heads: int = 8,
        d_ff: int = 2048,
        count: int = 6,
        dropout: float = 0.1,
        **kwargs: Any,
    ):
        """Create the layers and their weights; the defaults are the paper's base model.

        Args:
            vocabulary: V, the number of tokens, shared by source and target.
            d_model: D.
            heads: H, which divides D.
            d_ff: F, the inner width of the feed-forward nets.
            count: how many layers the encoder has, and the decoder likewise.
            dropout: the share of entries zeroed in training.
            kwargs: what every Keras model takes.
        """
        super().__init__(**kwargs)
        self.settings = {"vocabulary": vocabulary, "d_model": d_model, "heads": heads}
        self.settings |= {"d_ff": d_ff, "count": count, "dropout": dropout}
        embedding, encoder_layer, decoder_layer = self.parts
        self.embedding = embedding(vocabulary, d_model, dropout)
        self.encoder = [encoder_layer(d_model, heads, d_ff, dropout) for _ in range(count)]
        self.decoder = [decoder_layer(d_model, heads, d_ff, dropout) for _ in range(count)]
        # A first call makes the weights: saving needs them, and in the call that makes them Keras's masks get lost.
        self((np.ones((1, 2), "int32"), np.ones((1, 2), "int32")))

    def encode(self, source):
        """Turn the source (B, S) into the memory (B, S, D); nobody attends to padding."""
        x = self.embedding(source)
        for layer in self.encoder:
            x = layer(x)
        return x

    def decode(self, target, memory, memory_mask):
        """Score the token after each target position: (B, T) -> (B, T, V), with the memory and its mask (B, S)."""
        x = self.embedding(target)
        for (
            layer
        ) in self.decoder:  # every attention takes the mask off the memory: so it is handed on by hand
            x = layer(x, memory, memory_mask=memory_mask)
        return ops.matmul(x, ops.transpose(self.embedding.embedding.embeddings))  # (B, T, D) @ (D, V)

    def call(self, inputs):
        """Score the token after each target position: a source (B, S) and a target (B, T) give logits (B, T, V)."""
        source, target = inputs
        return self.decode(target, self.encode(source), self.embedding.compute_mask(source))

    def get_config(self) -> dict[str, Any]:
        """Return what ``__init__`` needs to make this model again."""
        return {**super().get_config(), **self.settings}


def date_ids(codec: Codec, pairs: Sequence[Pair]) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids of dates in both languages: sources (N, S), and targets (N, T) from BEGIN to END."""
    source = codec.encode([pair.source for pair in pairs]).numpy()
    target = codec.encode([pair.target for pair in pairs]).numpy()
    return source, np.pad(target, ((0, 0), (1, 0)), constant_values=BEGIN)


def write(model: keras.Model, source: np.ndarray, length: int = 30) -> np.ndarray:
    """Write up to ``length`` tokens for each source, always the likeliest, until all have reached END.

    Args:
        model: is called with (source, target) and returns logits (B, T, V).
        source: (B, S), ids.
        length: the most tokens to write.

    Returns:
        (B, T): ids from BEGIN on. Behind an END stands whatever the model said next.
    """
    source = np.asarray(source)
    target = np.full((len(source), 1), BEGIN)
    for _ in range(length):
        logits = model((source, target), training=False)
        following = ops.convert_to_numpy(ops.argmax(logits[:, -1], axis=-1))  # (B, T, V) -> (B,)
        target = np.concatenate([target, following[:, None]], axis=1)
        if (target == END).any(axis=1).all():
            break
    return target

"""What the course's Transformer is compared with: PyTorch's, and the recurrent model of unit 07 (unit 13).

Each is called as the course's own is: ``encode(source)``, ``decode(target, memory, source)``, and both in one.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from scratch.positions import sinusoidal_encoding
from scratch.seq2seq import Seq2Seq, decode_step
from scratch.tokens import BOS, EOS, PAD


class TorchTransformer(nn.Module):
    """``torch.nn.Transformer`` as it comes, between the embedding, sinusoids and tied logits of the course's own.

    It has as many weights. Its layers also drop attention weights, and entries inside the feed-forward nets.
    """

    def __init__(self, vocabulary: int, d_model: int, heads: int, d_ff: int, layers: int, dropout: float):
        """Create the table, and PyTorch's stacks of pre-norm layers."""
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, d_model)
        nn.init.normal_(self.embedding.weight, std=d_model**-0.5)
        sizes = {"dim_feedforward": d_ff, "dropout": dropout, "batch_first": True, "norm_first": True}
        layer = nn.TransformerEncoderLayer(d_model, heads, **sizes)
        encoder = nn.TransformerEncoder(layer, layers, nn.LayerNorm(d_model), enable_nested_tensor=False)
        self.core = nn.Transformer(d_model, heads, num_decoder_layers=layers, custom_encoder=encoder, **sizes)
        self.dropout = nn.Dropout(dropout)

    def embed(self, ids: Int[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
        """Look ids up, scale, add positions, as ``scratch.transformer`` does."""
        x = self.embedding(ids) * math.sqrt(self.embedding.embedding_dim)
        return self.dropout(x + sinusoidal_encoding(*x.shape[-2:]).to(x))

    def encode(self, source: Int[Tensor, "B S"]) -> Float[Tensor, "B S D"]:
        """Return a row for each source token; True forbids in PyTorch's padding masks."""
        return self.core.encoder(self.embed(source), src_key_padding_mask=source == PAD)

    def decode(
        self, target: Int[Tensor, "B T"], memory: Float[Tensor, "B S D"], source: Int[Tensor, "B S"]
    ) -> Float[Tensor, "B T V"]:
        """Score the token after each target token."""
        future = torch.ones(target.shape[1], target.shape[1], dtype=torch.bool).triu(1)
        x = self.core.decoder(
            self.embed(target), memory, tgt_mask=future, tgt_key_padding_mask=target == PAD,
            memory_key_padding_mask=source == PAD,
        )  # fmt: skip
        return x @ self.embedding.weight.T

    def forward(self, source: Int[Tensor, "B S"], target: Int[Tensor, "B T"]) -> Float[Tensor, "B T V"]:
        """Score the token after each target token."""
        return self.decode(target, self.encode(source), source)


class Recurrent(Seq2Seq):
    """The recurrent encoder and decoder of unit 07, with its attention, called as a Transformer is."""

    def __init__(self, vocabulary: int, d_embedding: int, d_state: int, dropout: float):
        """Create the weights; dropout is applied to embeddings and to what the scores are made of."""
        super().__init__(vocabulary, vocabulary, d_embedding, d_state, d_state, pad=PAD, begin=BOS, end=EOS)
        self.source_embedding = nn.Sequential(self.source_embedding, nn.Dropout(dropout))
        self.target_embedding = nn.Sequential(self.target_embedding, nn.Dropout(dropout))
        self.output = nn.Sequential(nn.Dropout(dropout), self.output)

    def encode(self, source: Int[Tensor, "B S"]) -> tuple:
        """Read sources: the state in which writing begins, and what can be looked up."""
        return self.read(source)

    def decode(
        self, target: Int[Tensor, "B T"], memory: tuple, source: Int[Tensor, "B S"]
    ) -> Float[Tensor, "B T V"]:
        """Score the token after each target token, one step after the other."""
        state, look_up = memory
        logits = []
        for token in target.unbind(1):  # T times (B,)
            scores, state, _ = decode_step(self, token, state, look_up)
            logits.append(scores)
        return torch.stack(logits, dim=1)

    def forward(self, source: Int[Tensor, "B S"], target: Int[Tensor, "B T"]) -> Float[Tensor, "B T V"]:
        """Score the token after each target token; the targets begin with their own first token."""
        return self.decode(target, self.encode(source), source)

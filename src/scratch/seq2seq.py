"""Sequence to sequence: a recurrent encoder, a recurrent decoder, and additive attention between them (unit 07).

Read it from the end: ``Seq2Seq`` holds the weights and, trained on pairs, turns one sequence of ids into another; the
functions are its steps.

Symbols: B batch, S source length, T target length, D width of an embedding, H width of a state, K width in which a
query and a key meet, M width of a value (in ``Seq2Seq`` 2 · H), V size of the target vocabulary.

Papers: Bahdanau, Cho and Bengio, "Neural Machine Translation by Jointly Learning to Align and Translate", 2015;
Sutskever, Vinyals and Le, "Sequence to Sequence Learning with Neural Networks", 2014.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

Memory = tuple[Float[Tensor, "B S K"], Float[Tensor, "B S M"], Bool[Tensor, "B S"]]  # keys, values, mask


class Seq2Seq(nn.Module):
    """Read a source, and say for every position of a target which token comes next.

    Without attention the decoder looks up one vector that sums up the whole source, in place of one for each of its
    tokens; weights and code are the same.

    Source: Bahdanau et al., 2015, section 3 and appendix A.2, with a linear layer in place of the maxout layer.
    """

    def __init__(
        self,
        source_size: int,
        target_size: int,
        d_embedding: int,
        d_state: int,
        d_key: int,
        *,
        attention: bool = True,
        pad: int = 0,
        begin: int = 1,
        end: int = 2,
    ):
        """Create the weights; sizes are those of the two vocabularies, and the widths D, H and K."""
        super().__init__()
        D, H, K = d_embedding, d_state, d_key
        self.source_embedding = nn.Embedding(source_size, D)
        self.encoder = nn.GRU(D, H, batch_first=True, bidirectional=True)
        self.bridge = nn.Linear(2 * H, H)  # from what was read to the state in which writing begins
        self.query = nn.Linear(H, K, bias=False)
        self.key = nn.Linear(2 * H, K, bias=False)
        self.v = nn.Parameter(torch.randn(K) / K**0.5)
        self.target_embedding = nn.Embedding(target_size, D)
        self.cell = nn.GRUCell(D + 2 * H, H)
        self.output = nn.Linear(3 * H, target_size)
        self.attention, self.pad, self.begin, self.end = attention, pad, begin, end

    def read(self, source: Int[Tensor, "B S"]) -> tuple[Float[Tensor, "B H"], Memory]:
        """Read sources; return the state in which writing begins, and the keys, values and mask to look up."""
        states, summary = encode(self, source)
        mask = source != self.pad
        if not self.attention:  # the bottleneck: one vector stands for the whole source
            states, mask = summary[:, None], torch.ones_like(mask[:, :1])  # (B, 1, 2H), (B, 1)
        return torch.tanh(self.bridge(summary)), (self.key(states), states, mask)

    def forward(self, source: Int[Tensor, "B S"], target: Int[Tensor, "B T"]) -> Float[Tensor, "B T V"]:
        """Score every target token, given the source and the true tokens before it: teacher forcing."""
        state, memory = self.read(source)
        logits = []
        for token in shift_right(target, self.begin).unbind(1):  # T times (B,)
            scores, state, _ = decode_step(self, token, state, memory)
            logits.append(scores)
        return torch.stack(logits, dim=1)


def shift_right(target: Int[Tensor, "B T"], begin: int) -> Int[Tensor, "B T"]:
    """Turn targets into what the decoder is shown while it learns them: at each step, the token before.

    Args:
        target: (B, T), ids that the decoder should write, one row for each sequence. Left as they are.
        begin: the id that stands for "nothing written yet".

    Returns:
        (B, T): column 0 is ``begin``, and column t is column t − 1 of the target. The last token of the target is not
        shown: nothing is asked after it.

    Source: Sutskever et al., 2014, section 2; Vaswani et al., "Attention Is All You Need", 2017, section 3.1, for the
    words "shifted right".
    """
    first = torch.full_like(target[:, :1], begin)  # (B, 1)
    return torch.cat([first, target[:, :-1]], dim=1)


def encode(
    model: Seq2Seq, source: Int[Tensor, "B S"]
) -> tuple[Float[Tensor, "B S 2H"], Float[Tensor, "B 2H"]]:
    """Read each source forwards and backwards, as if its padding were not there.

    Args:
        model: its ``source_embedding`` turns ids into vectors, its ``encoder``, a bidirectional GRU, reads these.
        source: (B, S), ids, padded on the right with ``model.pad``. Each row has at least one token.

    Returns:
        states: (B, S, 2H), for each token the forward state after it and, behind it, the backward state after it.
            What stands at padding does not matter, as long as it is finite.
        summary: (B, 2H), the last state of each direction: the forward one after the last token, and the backward
            one after the first.

    Source: Bahdanau et al., 2015, section 3.2.
    """
    x = model.source_embedding(source)  # (B, S) -> (B, S, D)
    lengths = (source != model.pad).sum(dim=1)
    packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
    states, last = model.encoder(packed)  # last (2, B, H): forward, backward
    states, _ = pad_packed_sequence(states, batch_first=True, total_length=source.shape[1])
    return states, torch.cat([last[0], last[1]], dim=-1)


def additive_attention(
    query: Float[Tensor, "B K"],
    keys: Float[Tensor, "B S K"],
    values: Float[Tensor, "B S M"],
    mask: Bool[Tensor, "B S"],
    v: Float[Tensor, " K"],
) -> tuple[Float[Tensor, "B M"], Float[Tensor, "B S"]]:
    """Look one query up in each sequence: a small network scores the keys, a softmax makes weights of the scores.

    Args:
        query: (B, K), what the decoder looks for.
        keys: (B, S, K), how each source position can be found.
        values: (B, S, M), what each source position hands over.
        mask: (B, S), True where there is a token and False at padding. Each row has at least one True.
        v: (K,), the weights of the last layer of the network.

    Returns:
        context: (B, M), the average of the values, in the shares that the weights say.
        weights: (B, S), a softmax over the source of the scores v · tanh(query + key). They are exactly zero at
            padding, and sum to one.

    Source: Bahdanau et al., 2015, section 3.1, equations 5 and 6, and appendix A.1.2.
    """
    scores = torch.tanh(query[:, None] + keys) @ v  # (B, 1, K) + (B, S, K) -> (B, S)
    weights = torch.softmax(scores.masked_fill(~mask, float("-inf")), dim=-1)
    return (weights[..., None] * values).sum(dim=1), weights  # (B, S, 1) * (B, S, M) -> (B, M)


def decode_step(
    model: Seq2Seq, token: Int[Tensor, " B"], state: Float[Tensor, "B H"], memory: Memory
) -> tuple[Float[Tensor, "B V"], Float[Tensor, "B H"], Float[Tensor, "B S"]]:
    """Write one token: look at the source, move the state on, and score what may come next.

    Args:
        model: ``query``, ``v``, ``target_embedding``, ``cell`` and ``output`` are the parts that it takes.
        token: (B,), the ids of the tokens before: what was written last, or ``model.begin``.
        state: (B, H), the state after everything before.
        memory: keys (B, S, K), values (B, S, 2H) and mask (B, S) of the source, as ``additive_attention`` takes them.

    Returns:
        logits: (B, V), the ``output`` of new state and context, next to each other in this order.
        state: (B, H), the new state: the ``cell`` moves the old one on, and its input is the token's embedding and the
            context, next to each other in this order.
        weights: (B, S), those of the look-up. The old state is what asks, by way of ``query``.

    Source: Bahdanau et al., 2015, section 3.1 and appendix A.2.2.
    """
    context, weights = additive_attention(model.query(state), *memory, model.v)
    x = torch.cat([model.target_embedding(token), context], dim=-1)  # (B, D), (B, 2H) -> (B, D + 2H)
    state = model.cell(x, state)
    return model.output(torch.cat([state, context], dim=-1)), state, weights


def greedy_decode(
    step: Callable[[Int[Tensor, " B"], Any], tuple[Float[Tensor, "B V"], Any]],
    state: Any,
    begin: Int[Tensor, " B"],
    *,
    end: int,
    limit: int,
    pad: int = 0,
) -> Int[Tensor, "B T"]:
    """Write sequences token by token: always the one with the highest score, which is the next step's input.

    Args:
        step: called as ``step(token, state)`` with the ids (B,) written last and the state, whatever that is; returns
            the scores (B, V) of the next token and the new state.
        state: the state before the first step.
        begin: (B,), the ids that the first step is shown: any ids, and no part of what is written.
        end: the id that ends a sequence.
        limit: how many tokens are written at most, at least 1.
        pad: the id that fills a sequence after its end.

    Returns:
        (B, T): what was written, ``end`` included where it was reached, ``pad`` behind it. T is the number of calls of
        ``step``: they stop when every sequence has ended, or at the limit.

    Source: Sutskever et al., 2014, section 3.2, with a beam of one.
    """
    token, ended, written = begin, torch.zeros_like(begin, dtype=torch.bool), []
    while len(written) < limit and not ended.all():
        logits, state = step(token, state)
        token = logits.argmax(dim=-1).masked_fill(ended, pad)
        ended = ended | (token == end)
        written.append(token)
    return torch.stack(written, dim=1)

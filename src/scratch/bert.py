"""BERT, read as its difference from the Transformer: an encoder alone, trained to fill in what was masked (unit 17).

    ids (B, T) ─ BertEmbeddings ─ Encoder ─ hidden (B, T, D) ─┬─ row 0 ─ pooler ─ (B, D) ─ SequenceClassifier
    words + positions + segments,  the one of unit 11,        └─ every row ─ which word is hidden here?
    normed                         no decoder, no causal mask

``BertModel.__init__`` holds all that differs in the encoder: GELU in place of ReLU, a smaller eps in the norms, smaller
initial weights.

Symbols: B batch, T positions, D model width, F inner width of the feed-forward nets, V vocabulary, C classes.

Paper: Devlin, Chang, Lee, Toutanova, "BERT: Pre-training of Deep Bidirectional Transformers for Language
Understanding", 2019.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from scratch.layers import Encoder, LayerNorm
from scratch.positions import LearnedPositions


def mask_tokens(
    ids: Int[Tensor, "B T"], vocabulary: int, mask_id: int, special: Sequence[int], rate: float = 0.15
) -> tuple[Int[Tensor, "B T"], Int[Tensor, "B T"]]:
    """Choose tokens at random to be predicted, and hide most of them.

    Every token that is not special is chosen with probability ``rate``, each by itself. Of the chosen ones, 80 % are
    replaced by ``mask_id``, 10 % by a random token, drawn evenly from all that are not special, and 10 % stay as they
    are; which, is drawn anew for each.

    Args:
        ids: (B, T), left unchanged.
        vocabulary: V; ids lie between 0 and V − 1.
        mask_id: the id of [MASK].
        special: the ids of all special tokens ([PAD], [CLS], [SEP], [MASK], …), mask_id among them. They are never
            chosen and never drawn.
        rate: the probability with which a token is chosen.

    Returns:
        The inputs (B, T), and the labels (B, T): what was there where a token was chosen, and −100, which the loss
        leaves out, everywhere else. Both are int64. The numbers are drawn from PyTorch's global generator.

    Source: Devlin et al., 2019, section 3.1, task 1, and appendix A.1.
    """
    special = torch.tensor(special)
    chosen = (torch.rand(ids.shape) < rate) & ~torch.isin(ids, special)  # (B, T)
    labels = torch.where(chosen, ids, -100)
    every = torch.arange(vocabulary)
    ordinary = every[~torch.isin(every, special)]
    drawn = ordinary[torch.randint(len(ordinary), ids.shape)]  # (B, T)
    fate = torch.rand(ids.shape)
    inputs = torch.where(chosen & (fate < 0.8), mask_id, ids)
    return torch.where(chosen & (fate >= 0.9), drawn, inputs), labels


class BertEmbeddings(nn.Module):
    """Say of every token what it is, where it stands and to which segment it belongs: three vectors, added and normed.

    Its sub-modules are ``words`` and ``segments``, each an ``nn.Embedding``, ``positions``, whose vectors are its
    parameter ``weight`` (max_length, D), and ``norm``, a ``LayerNorm`` with eps 1e-12. These names are part of the
    contract, because weights are loaded by them.

    Source: Devlin et al., 2019, section 3 and figure 2.
    """

    def __init__(
        self, vocabulary: int, d_model: int, max_length: int = 512, segments: int = 2, dropout: float = 0.1
    ):
        """Create ``words`` (V, D), ``positions`` (max_length, D), ``segments`` (so many, D), ``norm``, a dropout."""
        super().__init__()
        self.words = nn.Embedding(vocabulary, d_model)
        self.positions = LearnedPositions(max_length, d_model)
        self.segments = nn.Embedding(segments, d_model)
        self.norm = LayerNorm(d_model, eps=1e-12)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, ids: Int[Tensor, "B T"], segments: Int[Tensor, "B T"] | None = None
    ) -> Float[Tensor, "B T D"]:
        """Return dropout(norm(word + position + segment)) for every token; nothing is scaled.

        Args:
            ids: (B, T). Positions are counted from 0 in every row, whatever stands there.
            segments: (B, T), to which segment each token belongs; None: all to segment 0.

        Raises:
            ValueError: T is greater than max_length.
        """
        segments = torch.zeros_like(ids) if segments is None else segments
        x = self.words(ids) + self.segments(segments)  # (B, T) -> (B, T, D)
        return self.dropout(self.norm(self.positions(x)))


class BertModel(nn.Module):
    """Read a text in both directions at once: one row for every token, which depends on all the others.

    Its sub-modules are ``embeddings`` (``BertEmbeddings``), ``encoder`` (the ``Encoder`` of ``scratch.layers``,
    post-norm) and ``pooler`` (an ``nn.Linear`` from D to D, with a bias). These names are part of the contract.

    Source: Devlin et al., 2019, section 3; Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016 (GELU).
    """

    def __init__(
        self,
        vocabulary: int,
        d_model: int = 768,
        heads: int = 12,
        d_ff: int = 3072,
        layers: int = 12,
        dropout: float = 0.1,
        max_length: int = 512,
        segments: int = 2,
    ):
        """Create ``embeddings``, ``encoder`` and ``pooler``; the defaults are those of BERT-base.

        Three things in the encoder are not the Transformer's: the activation between the two maps of every feed-forward
        net is the exact GELU, x · Φ(x) with Φ the distribution function of the normal distribution; every norm has the
        eps 1e-12; and in the whole model every matrix and every table is drawn from a normal distribution with standard
        deviation 0.02, while every bias starts at zero.

        Args:
            vocabulary: V.
            d_model: D.
            heads: H, which divides D.
            d_ff: F.
            layers: how many layers the encoder has.
            dropout: for the embeddings and for every residual.
            max_length: how many positions have a vector.
            segments: how many segments have one.
        """
        super().__init__()
        self.embeddings = BertEmbeddings(vocabulary, d_model, max_length, segments, dropout)
        self.encoder = Encoder(d_model, heads, d_ff, layers, dropout)
        for layer in self.encoder.layers:
            layer.feed_forward.activation = F.gelu
            layer.attention_residual.norm.eps = layer.feed_forward_residual.norm.eps = 1e-12
        self.pooler = nn.Linear(d_model, d_model)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(
        self,
        ids: Int[Tensor, "B T"],
        segments: Int[Tensor, "B T"] | None = None,
        mask: Bool[Tensor, "B T"] | Int[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Return the hidden states, one row for every token.

        Args:
            ids: (B, T).
            segments: (B, T), to which segment each token belongs; None: all to segment 0.
            mask: (B, T), True (or 1, as tokenizers have it) where a real token stands, False (or 0) where there is
                padding, which nobody attends to. None: all are real.

        Returns:
            (B, T, D). The rows of real tokens do not depend on padding.
        """
        mask = None if mask is None else mask.bool()[:, None]  # (B, T) -> (B, 1, T)
        return self.encoder(self.embeddings(ids, segments), mask)

    def pool(self, hidden: Float[Tensor, "B T D"]) -> Float[Tensor, "B D"]:
        """Make one row of a text: tanh of ``pooler`` of the hidden state of its first token, [CLS]."""
        return torch.tanh(self.pooler(hidden[:, 0]))  # (B, T, D) -> (B, D)


def load_pretrained(model: BertModel, published: Mapping[str, Tensor]) -> list[str]:
    """Fill a model with published weights, which have the names of the library ``transformers``.

    In layer i of the encoder, and around it:

        published                                       here
        embeddings.word_embeddings.weight               embeddings.words.weight
        embeddings.position_embeddings.weight           embeddings.positions.weight
        embeddings.token_type_embeddings.weight         embeddings.segments.weight
        embeddings.LayerNorm.*                          embeddings.norm.*
        encoder.layer.i.attention.self.query.*          encoder.layers.i.attention.query.*         (key, value likewise)
        encoder.layer.i.attention.output.dense.*        encoder.layers.i.attention.output.*
        encoder.layer.i.attention.output.LayerNorm.*    encoder.layers.i.attention_residual.norm.*
        encoder.layer.i.intermediate.dense.*            encoder.layers.i.feed_forward.hidden.*
        encoder.layer.i.output.dense.*                  encoder.layers.i.feed_forward.output.*
        encoder.layer.i.output.LayerNorm.*              encoder.layers.i.feed_forward_residual.norm.*
        pooler.dense.*                                  pooler.*

    where * is ``weight`` or ``bias``.

    Args:
        model: whose parameters get the published numbers, copied.
        published: weights by name; left unchanged. If BERT is a part of a larger model there, its names begin with
            "bert.", which counts for nothing; old files write ``gamma`` and ``beta`` for the weight and the bias of a
            LayerNorm.

    Returns:
        The published names, sorted and as they are in the file, for which the model has no place (such as those of
        another head).

    Raises:
        ValueError: a parameter of the model is not among the published ones, or has another shape there. The model is
            then as it was.
    """
    parts = {  # in this order: "attention.output.dense" also ends in "output.dense"
        "word_embeddings": "words",
        "position_embeddings": "positions",
        "token_type_embeddings": "segments",
        "embeddings.LayerNorm": "embeddings.norm",
        "encoder.layer.": "encoder.layers.",
        "attention.self.": "attention.",
        "attention.output.dense": "attention.output",
        "attention.output.LayerNorm": "attention_residual.norm",
        "intermediate.dense": "feed_forward.hidden",
        ".output.dense": ".feed_forward.output",
        ".output.LayerNorm": ".feed_forward_residual.norm",
        "pooler.dense": "pooler",
        ".gamma": ".weight",
        ".beta": ".bias",
    }
    parameters, found, unused = dict(model.named_parameters()), {}, []
    for name, weight in published.items():
        here = name.removeprefix("bert.")
        for theirs, ours in parts.items():
            here = here.replace(theirs, ours)
        if here in parameters:
            found[here] = weight
        else:
            unused.append(name)
    for name, parameter in parameters.items():
        if name not in found or found[name].shape != parameter.shape:
            raise ValueError(f"nothing of the shape of {name} was published for it")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(found[name])
    return sorted(unused)


class SequenceClassifier(nn.Module):
    """Put a text into one of C classes: BERT reads it, and one linear map on top judges by its pooled row.

    Its sub-modules are ``bert``, the model that it was given, and ``classifier``, an ``nn.Linear`` from D to C: these
    names are part of the contract.

    Source: Devlin et al., 2019, section 4 and figure 4b.
    """

    def __init__(self, bert: BertModel, classes: int, dropout: float = 0.1):
        """Keep ``bert``, whose weights are trained along, and create ``classifier`` and a dropout."""
        super().__init__()
        self.bert = bert
        self.classifier = nn.Linear(bert.pooler.out_features, classes)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        ids: Int[Tensor, "B T"],
        segments: Int[Tensor, "B T"] | None = None,
        mask: Bool[Tensor, "B T"] | Int[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B C"]:
        """Return the logits of every text: ``classifier`` of dropout of what ``bert`` pools of it.

        Args:
            ids: (B, T).
            segments: (B, T), or None, as ``BertModel`` takes it.
            mask: (B, T), or None, as ``BertModel`` takes it.
        """
        pooled = self.bert.pool(self.bert(ids, segments, mask))  # (B, T) -> (B, T, D) -> (B, D)
        return self.classifier(self.dropout(pooled))

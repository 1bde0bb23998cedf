"""torch.nn.functional and PyTorch's own layers throughout; weights by load_state_dict; positions as an nn.Embedding."""

import re

import torch
import torch.nn.functional as F
from torch import nn

from scratch.layers import Encoder


def mask_tokens(ids, vocabulary, mask_id, special, rate=0.15):
    forbidden = torch.zeros(vocabulary, dtype=torch.bool)
    forbidden[list(special)] = True
    chosen = torch.bernoulli(torch.full(ids.shape, float(rate)).masked_fill(forbidden[ids], 0.0)).bool()
    labels = ids.clone().masked_fill_(~chosen, -100)
    inputs = ids.clone()
    hidden = torch.bernoulli(torch.full(ids.shape, 0.8)).bool() & chosen
    inputs[hidden] = mask_id
    other = torch.bernoulli(torch.full(ids.shape, 0.5)).bool() & chosen & ~hidden
    chances = (~forbidden).float()
    if other.any():
        inputs[other] = torch.multinomial(chances, int(other.sum()), replacement=True)
    return inputs, labels


class BertEmbeddings(nn.Module):
    def __init__(self, vocabulary, d_model, max_length=512, segments=2, dropout=0.1):
        super().__init__()
        self.words = nn.Embedding(vocabulary, d_model, padding_idx=0)
        self.positions = nn.Embedding(max_length, d_model)
        self.segments = nn.Embedding(segments, d_model)
        self.norm = nn.LayerNorm(d_model, eps=1e-12)
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("position_ids", torch.arange(max_length)[None], persistent=False)

    def forward(self, ids, segments=None):
        count = ids.size(1)
        if count > self.positions.num_embeddings:
            raise ValueError("the text is too long")
        x = self.words(ids) + self.positions(self.position_ids[:, :count])
        x = x + (self.segments.weight[0] if segments is None else self.segments(segments))
        return self.dropout(self.norm(x))


class BertModel(nn.Module):
    def __init__(
        self, vocabulary, d_model=768, heads=12, d_ff=3072, layers=12, dropout=0.1, max_length=512, segments=2
    ):
        super().__init__()
        self.embeddings = BertEmbeddings(vocabulary, d_model, max_length, segments, dropout)
        self.encoder = Encoder(d_model, heads, d_ff, layers, dropout=dropout)
        self.pooler = nn.Linear(d_model, d_model)
        for module in self.modules():
            if hasattr(module, "eps"):
                module.eps = 1e-12
            if hasattr(module, "activation"):
                module.activation = nn.GELU()
        self.apply(self.start)

    @torch.no_grad()
    def start(self, module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            module.weight.copy_(0.02 * torch.randn_like(module.weight))
            if isinstance(module, nn.Embedding) and module.padding_idx is not None:
                module.weight[module.padding_idx] = 0.0
        if isinstance(module, nn.Linear):
            module.bias.zero_()

    def forward(self, ids, segments=None, mask=None):
        x = self.embeddings(ids, segments)
        if mask is not None:
            mask = torch.zeros(mask.shape, dtype=x.dtype).masked_fill(mask == 0, -torch.inf)[:, None, :]
        return self.encoder(x, mask)

    def pool(self, hidden):
        return F.linear(hidden.select(1, 0), self.pooler.weight, self.pooler.bias).tanh()


RULES = [
    (r"^bert\.", ""),
    (r"\.gamma$", ".weight"),
    (r"\.beta$", ".bias"),
    (r"word_embeddings|(position)_embeddings|token_type_embeddings", lambda m: "positions" if m[1] else m[0]),
    (r"word_embeddings", "words"),
    (r"token_type_embeddings", "segments"),
    (r"^embeddings\.LayerNorm", "embeddings.norm"),
    (r"^encoder\.layer\.", "encoder.layers."),
    (r"attention\.self\.", "attention."),
    (r"attention\.output\.LayerNorm", "attention_residual.norm"),
    (r"attention\.output\.dense", "attention.output"),
    (r"intermediate\.dense", "feed_forward.hidden"),
    (r"(\d+)\.output\.dense", r"\1.feed_forward.output"),
    (r"(\d+)\.output\.LayerNorm", r"\1.feed_forward_residual.norm"),
    (r"^pooler\.dense", "pooler"),
]


def load_pretrained(model, published):
    own = dict(model.named_parameters())
    state, left = {}, []
    for name in sorted(published):
        new = name
        for pattern, text in RULES:
            new = re.sub(pattern, text, new)
        if new in own:
            state[new] = published[name]
        else:
            left.append(name)
    if state.keys() != own.keys():
        raise ValueError(f"not published: {own.keys() - state.keys()}")
    if any(state[name].shape != own[name].shape for name in own):
        raise ValueError("a weight has another shape")
    model.load_state_dict(state, strict=False)
    return left


class SequenceClassifier(nn.Module):
    def __init__(self, bert, classes, dropout=0.1):
        super().__init__()
        self.bert, self.p = bert, dropout
        self.classifier = nn.Linear(bert.pooler.weight.shape[0], classes)

    def forward(self, ids, segments=None, mask=None):
        hidden = self.bert(ids=ids, segments=segments, mask=mask)
        return self.classifier(F.dropout(self.bert.pool(hidden), self.p, self.training))

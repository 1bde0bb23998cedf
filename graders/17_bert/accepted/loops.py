"""Slow and plain: tokens one by one, with Python's own random numbers; published names built from the model's."""

import random

import torch
from torch import nn

from scratch.layers import Encoder, LayerNorm


def mask_tokens(ids, vocabulary, mask_id, special, rate=0.15):
    ordinary = [token for token in range(vocabulary) if token not in special]
    inputs, labels = [], []
    for row in ids.tolist():
        new, asked = [], []
        for token in row:
            asked.append(-100)
            if token not in special and random.random() < rate:
                asked[-1] = token
                fate = random.random()
                if fate < 0.8:
                    token = mask_id
                elif fate < 0.9:
                    token = random.choice(ordinary)
            new.append(token)
        inputs.append(new)
        labels.append(asked)
    return torch.tensor(inputs), torch.tensor(labels)


class BertEmbeddings(nn.Module):
    def __init__(self, vocabulary, d_model, max_length=512, segments=2, dropout=0.1):
        super().__init__()
        self.words = nn.Embedding(vocabulary, d_model)
        self.positions = nn.Embedding(max_length, d_model)
        self.segments = nn.Embedding(segments, d_model)
        self.norm = LayerNorm(d_model, 1e-12)
        self.dropout = nn.Dropout(dropout)
        self.longest = max_length

    def forward(self, ids, segments=None):
        if ids.shape[1] > self.longest:
            raise ValueError(f"there are {self.longest} positions")
        rows = []
        for t in range(ids.shape[1]):
            segment = torch.tensor([0] * len(ids)) if segments is None else segments[:, t]
            rows.append(self.words(ids[:, t]) + self.positions.weight[t] + self.segments(segment))
        return self.dropout(self.norm(torch.stack(rows, dim=1)))


class BertModel(nn.Module):
    def __init__(
        self, vocabulary, d_model=768, heads=12, d_ff=3072, layers=12, dropout=0.1, max_length=512, segments=2
    ):
        super().__init__()
        self.embeddings = BertEmbeddings(vocabulary, d_model, max_length, segments, dropout)
        self.encoder = Encoder(d_model, heads, d_ff, layers, dropout)
        self.pooler = nn.Linear(d_model, d_model)
        for layer in self.encoder.layers:
            layer.feed_forward.activation = lambda x: 0.5 * x * (1 + torch.erf(x / 2**0.5))
            for residual in (layer.attention_residual, layer.feed_forward_residual):
                residual.norm.eps = 1e-12
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if "norm" in name:
                    continue
                if "bias" in name:
                    parameter.fill_(0.0)
                else:
                    parameter.normal_(0.0, 0.02)

    def forward(self, ids, segments=None, mask=None):
        x = self.embeddings(ids, segments)
        if mask is None:
            mask = torch.ones_like(ids)
        seen = (mask != 0).unsqueeze(1).expand(-1, ids.shape[1], -1)
        for layer in self.encoder.layers:
            x = layer(x, seen)
        return x

    def pool(self, hidden):
        return torch.stack([torch.tanh(self.pooler(rows[0])) for rows in hidden])


def twin(name):
    """What a parameter is called in the file."""
    tables = {"words": "word", "positions": "position", "segments": "token_type"}
    parts = name.split(".")
    if parts[0] == "pooler":
        return f"pooler.dense.{parts[1]}"
    if parts[0] == "embeddings":
        table = tables.get(parts[1])
        return f"embeddings.{table}_embeddings.{parts[2]}" if table else f"embeddings.LayerNorm.{parts[2]}"
    inside = {
        "attention.output": "attention.output.dense",
        "attention_residual.norm": "attention.output.LayerNorm",
        "feed_forward.hidden": "intermediate.dense",
        "feed_forward.output": "output.dense",
        "feed_forward_residual.norm": "output.LayerNorm",
    }
    place = ".".join(parts[3:5])
    place = inside.get(place, place.replace("attention.", "attention.self."))
    return f"encoder.layer.{parts[2]}.{place}.{parts[5]}"


def load_pretrained(model, published):
    used, pairs = set(), []
    for name, parameter in model.named_parameters():
        other = twin(name)
        old = other.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        candidates = [n for n in (other, old, f"bert.{other}", f"bert.{old}") if n in published]
        if not candidates:
            raise ValueError(f"{other} was not published")
        if published[candidates[0]].shape != parameter.shape:
            raise ValueError(f"{other} has another shape")
        used.add(candidates[0])
        pairs.append((parameter, published[candidates[0]]))
    for parameter, weight in pairs:
        parameter.data.copy_(weight)
    return sorted(set(published) - used)


class SequenceClassifier(nn.Module):
    def __init__(self, bert, classes, dropout=0.1):
        super().__init__()
        self.bert = bert
        self.classifier = nn.Linear(bert.embeddings.words.weight.shape[1], classes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, ids, segments=None, mask=None):
        logits = []
        for row in self.bert.pool(self.bert(ids, segments, mask)):
            logits.append(self.classifier(self.dropout(row)))
        return torch.stack(logits)

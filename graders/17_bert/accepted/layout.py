"""Another layout: layers of a class of their own, tables in other orders, NumPy's random numbers, sub-classes."""

import numpy as np
import torch
from torch import nn

from scratch.layers import Encoder, EncoderLayer, FeedForward, LayerNorm
from scratch.positions import LearnedPositions


def mask_tokens(ids, vocabulary, mask_id, special, rate=0.15):
    rng = np.random.default_rng()
    array = ids.numpy()
    is_special = np.isin(array, list(special))
    draw = rng.random(array.shape)  # one draw: below 0.8 · rate, 0.9 · rate, rate
    random = rng.choice(np.setdiff1d(np.arange(vocabulary), list(special)), size=array.shape)
    chosen = (draw < rate) & ~is_special
    inputs = np.select([chosen & (draw < 0.8 * rate), chosen & (draw < 0.9 * rate)], [mask_id, random], array)
    return torch.from_numpy(inputs).long(), torch.from_numpy(np.where(chosen, array, -100)).long()


class Norm(LayerNorm):
    """A LayerNorm with BERT's eps."""

    def __init__(self, d_model):
        super().__init__(d_model, eps=1e-12)


class BertEmbeddings(nn.Module):
    def __init__(self, vocabulary, d_model, max_length=512, segments=2, dropout=0.1):
        super().__init__()
        self.norm = Norm(d_model)
        self.after = nn.Sequential(nn.Dropout(dropout))
        self.segments = nn.Embedding(segments, d_model)
        self.positions = LearnedPositions(max_length, d_model)
        self.words = nn.Embedding(vocabulary, d_model)

    def forward(self, ids, segments=None):
        if segments is None:
            segments = ids * 0
        one_hot = nn.functional.one_hot(ids, self.words.num_embeddings).to(self.words.weight.dtype)
        x = self.positions(one_hot @ self.words.weight)
        return self.after(self.norm(x + self.segments.weight[segments]))


class BertLayer(EncoderLayer):
    """An encoder layer with BERT's activation and norms."""

    def __init__(self, d_model, heads, d_ff, dropout):
        super().__init__(d_model, heads, d_ff, dropout, norm_first=False)
        self.feed_forward = FeedForward(d_model, d_ff, nn.functional.gelu)
        self.attention_residual.norm = Norm(d_model)
        self.feed_forward_residual.norm = Norm(d_model)


class BertModel(nn.Module):
    def __init__(
        self, vocabulary, d_model=768, heads=12, d_ff=3072, layers=12, dropout=0.1, max_length=512, segments=2
    ):
        super().__init__()
        self.pooler = nn.Linear(d_model, d_model)
        self.encoder = Encoder(d_model, heads, d_ff, 0, dropout)
        self.encoder.layers.extend(BertLayer(d_model, heads, d_ff, dropout) for _ in range(layers))
        self.embeddings = BertEmbeddings(vocabulary, d_model, max_length, segments, dropout)
        for part in self.modules():
            if isinstance(part, (nn.Linear, nn.Embedding, LearnedPositions)):
                nn.init.trunc_normal_(part.weight, std=0.02, a=-0.1, b=0.1)
            if isinstance(part, nn.Linear):
                nn.init.constant_(part.bias, 0)

    def forward(self, ids, segments=None, mask=None):
        seen = None
        if mask is not None:
            seen = mask.to(torch.bool).view(len(ids), 1, -1)
        return self.encoder(self.embeddings(ids, segments=segments), mask=seen)

    def pool(self, hidden):
        first, *_ = hidden.unbind(dim=1)
        return self.pooler(first).tanh()


def load_pretrained(model, published):
    def here(name):
        name = name.removeprefix("bert.").replace("gamma", "weight").replace("beta", "bias")
        words = {
            "word_embeddings": "words",
            "position_embeddings": "positions",
            "token_type_embeddings": "segments",
        }
        parts = [words.get(part, part) for part in name.split(".")]
        match parts:
            case ["embeddings", "LayerNorm", kind]:
                return f"embeddings.norm.{kind}"
            case ["pooler", "dense", kind]:
                return f"pooler.{kind}"
            case ["encoder", "layer", i, "attention", "self", part, kind]:
                return f"encoder.layers.{i}.attention.{part}.{kind}"
            case ["encoder", "layer", i, "attention", "output", "dense", kind]:
                return f"encoder.layers.{i}.attention.output.{kind}"
            case ["encoder", "layer", i, "attention", "output", _, kind]:
                return f"encoder.layers.{i}.attention_residual.norm.{kind}"
            case ["encoder", "layer", i, "intermediate", _, kind]:
                return f"encoder.layers.{i}.feed_forward.hidden.{kind}"
            case ["encoder", "layer", i, "output", "dense", kind]:
                return f"encoder.layers.{i}.feed_forward.output.{kind}"
            case ["encoder", "layer", i, "output", _, kind]:
                return f"encoder.layers.{i}.feed_forward_residual.norm.{kind}"
        return ".".join(parts)

    names = {here(name): name for name in published}
    parameters = dict(model.named_parameters())
    for name, parameter in parameters.items():
        if name not in names:
            raise ValueError(f"nothing for {name}")
        if published[names[name]].shape != parameter.shape:
            raise ValueError(f"the shapes of {name} differ")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter[...] = published[names[name]]
    return [name for name in sorted(published) if here(name) not in parameters]


class SequenceClassifier(nn.Module):
    def __init__(self, bert, classes, dropout=0.1):
        super().__init__()
        self.classifier = nn.Linear(bert.pooler.in_features, classes)
        self.drop = nn.Dropout(p=dropout)
        self.bert = bert

    def forward(self, ids, segments=None, mask=None):
        x = self.bert(ids, segments=segments, mask=mask)
        return (
            torch.einsum("cd,bd->bc", self.classifier.weight, self.drop(self.bert.pool(x)))
            + self.classifier.bias
        )

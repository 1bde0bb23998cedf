"""Someone who distrusts batches: every sequence by itself, in plain loops."""

import math

import torch


def shift_right(target, begin):
    rows = []
    for row in target.tolist():
        rows.append([begin, *row][: len(row)])
    return torch.tensor(rows, dtype=target.dtype)


def encode(model, source):
    B, S = source.shape
    width = 2 * model.encoder.hidden_size
    every, summaries = [], []
    for b in range(B):
        ids = [i for i in source[b].tolist() if i != model.pad]
        vectors = model.source_embedding(torch.tensor(ids))
        out, last = model.encoder(vectors.unsqueeze(0))
        filler = torch.zeros(S - len(ids), width, dtype=out.dtype)
        every.append(torch.cat([out[0], filler]))
        summaries.append(last.squeeze(1).reshape(-1))
    return [torch.stack(every), torch.stack(summaries)]


def additive_attention(query, keys, values, mask, v):
    contexts, all_weights = [], []
    for q, ks, xs, real in zip(query, keys, values, mask, strict=True):
        scores = []
        for k, is_token in zip(ks, real, strict=True):
            score = torch.dot(v, torch.tanh(q + k))
            scores.append(score if is_token else torch.full_like(score, -math.inf))
        weights = torch.softmax(torch.stack(scores), dim=0)
        context = torch.zeros_like(xs[0])
        for w, x in zip(weights, xs, strict=True):
            context = context + w * x
        contexts.append(context)
        all_weights.append(weights)
    return torch.stack(contexts), torch.stack(all_weights)


def decode_step(model, token, state, memory):
    keys, values, mask = memory
    query = model.query(state)
    context, weights = additive_attention(query, keys, values, mask, model.v)
    embedded = model.target_embedding(token)
    new_state = model.cell(torch.hstack([embedded, context]), state)
    features = torch.hstack([new_state, context])
    logits = model.output(features)
    return logits, new_state, weights


def greedy_decode(step, state, begin, *, end, limit, pad=0):
    token = begin.clone()
    finished = [False] * len(begin)
    sentences = [[] for _ in begin]
    for _ in range(limit):
        logits, state = step(token, state)
        best = torch.max(logits, dim=1).indices
        for b in range(len(sentences)):
            written = pad if finished[b] else int(best[b])
            sentences[b].append(written)
            finished[b] = finished[b] or written == end
        token = torch.tensor([sentence[-1] for sentence in sentences])
        if all(finished):
            break
    return torch.tensor(sentences)

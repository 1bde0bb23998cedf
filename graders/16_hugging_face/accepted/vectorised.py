"""Comparisons and indices instead of loops; torchless list work for labels; two evaluations in one helper."""

import math
from itertools import pairwise

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast


def train_tokenizer(texts, size, *, lowercase=True):
    core = Tokenizer(models.WordPiece(vocab={}, unk_token="[UNK]", max_input_chars_per_word=100))
    core.normalizer = normalizers.BertNormalizer(True, True, None, lowercase)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=size, special_tokens="[PAD] [UNK] [CLS] [SEP] [MASK]".split(), show_progress=False
    )
    core.train_from_iterator((text for text in texts), trainer)
    core.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )

    class Tokens(PreTrainedTokenizerFast):
        model_input_names = ("input_ids", "token_type_ids", "attention_mask")

    return Tokens(
        tokenizer_object=core,
        **{f"{name.lower()}_token": f"[{name}]" for name in ("PAD", "UNK", "CLS", "SEP", "MASK")},
    )


def align_labels(labels, word_ids, inside=None):
    if any(w is not None and w > len(labels) - 1 for w in word_ids):
        raise ValueError
    rest = (lambda label: -100) if inside is None else (lambda label: inside.get(label, label))
    return [
        -100 if w is None else labels[w] if w != before else rest(labels[w])
        for before, w in pairwise([None, *word_ids])
    ]


def collate(rows, pad_id, *, side="right", multiple_of=1):
    lengths = torch.tensor([len(row["input_ids"]) for row in rows])
    size = -(-int(lengths.max()) // multiple_of) * multiple_of
    mask = torch.arange(size) < lengths[:, None]
    if side == "left":
        mask = mask.flip(1)
    batch = {"attention_mask": mask.long()}
    for name, filler in (("input_ids", pad_id), ("token_type_ids", 0), ("labels", -100)):
        if name not in rows[0]:
            continue
        values = [row[name] for row in rows]
        if isinstance(values[0], int):
            batch[name] = torch.tensor(values)
            continue
        if [len(value) for value in values] != lengths.tolist():
            raise ValueError(name)
        flat = torch.tensor([i for value in values for i in value])
        batch[name] = torch.full(mask.shape, filler).masked_scatter(mask, flat)
    return batch


def mean_pool(hidden, mask):
    weights = mask.to(hidden).unsqueeze(1)  # (B, 1, T)
    total = weights @ hidden  # (B, 1, D)
    return (total / weights.sum(-1, keepdim=True).clamp_min(1)).squeeze(1)


def score(model, batch):
    """Sum of losses, right ones, and how many count."""
    out = model(**batch)
    labels = batch["labels"]
    count = (labels != -100).sum()
    return torch.stack(
        [out.loss * count, (out.logits.argmax(-1) == labels).sum().to(out.loss), count.to(out.loss)]
    )


def fine_tune(model, train, validation, *, epochs, lr, warmup=0.1, weight_decay=0.01, max_norm=1.0):
    decay = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    rest = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [{"params": decay}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=lr, weight_decay=weight_decay)
    N = epochs * len(train)
    W = math.ceil(warmup * N)
    rates = [n / W for n in range(W)] + [(N - n) / (N - W) for n in range(W, N)]
    history = []
    for epoch in range(epochs):
        losses = []
        for i, batch in enumerate(train):
            model.train()
            for group in optimizer.param_groups:
                group["lr"] = lr * rates[epoch * len(train) + i]
            loss = model(**batch).loss
            grads = torch.autograd.grad(loss, decay + rest, allow_unused=True)
            for p, g in zip(decay + rest, grads, strict=True):
                p.grad = g
            torch.nn.utils.clip_grad_norm_(decay + rest, max_norm)
            optimizer.step()
            losses.append(loss.detach())
        model.eval()
        with torch.no_grad():
            summed, right, count = sum(score(model, batch) for batch in validation).tolist()
        mean = torch.stack(losses).mean().item()
        history.append({"loss": mean, "validation_loss": summed / count, "accuracy": right / count})
    return history

"""As much as possible from the libraries: BertTokenizer around a learned vocabulary, pad_sequence, LambdaLR."""

import math

import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch.nn.utils.rnn import pad_sequence


def train_tokenizer(texts, size, *, lowercase=True):
    """Only the vocabulary is kept; BERT's own tokenizer does the rest."""
    core = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    core.train_from_iterator(
        texts, trainers.WordPieceTrainer(vocab_size=size, special_tokens=special, show_progress=False)
    )
    return transformers.BertTokenizer(vocab=core.get_vocab(), do_lower_case=lowercase)


def align_labels(labels, word_ids, inside=None):
    out, seen = [], set()
    for w in word_ids:
        try:
            label = -100 if w is None else labels[w]
        except IndexError as error:
            raise ValueError(f"no label for word {w}") from error
        if w is not None and w in seen:
            label = -100 if inside is None else inside.get(label, label)
        seen.add(w)
        out.append(label)
    return out


def collate(rows, pad_id, *, side="right", multiple_of=1):
    fill = {"input_ids": pad_id, "attention_mask": 0, "token_type_ids": 0, "labels": -100}
    rows = [{k: row[k] for k in fill if k in row} for row in rows]
    for row in rows:
        row["attention_mask"] = [1 for _ in row["input_ids"]]
        for value in row.values():
            if not isinstance(value, int) and len(value) != len(row["input_ids"]):
                raise ValueError("a list does not fit")
    batch = {}
    for name in rows[0]:
        values = [torch.tensor(row[name]) for row in rows]
        if values[0].dim() == 0:
            batch[name] = torch.stack(values)
            continue
        full = pad_sequence(values, batch_first=True, padding_value=fill[name], padding_side=side)
        extra = -full.shape[1] % multiple_of
        more = (extra, 0) if side == "left" else (0, extra)
        batch[name] = torch.nn.functional.pad(full, more, value=fill[name])
    return batch


def mean_pool(hidden, mask):
    weights = mask.to(hidden.dtype)
    weights = weights / torch.clamp(weights.sum(1, keepdim=True), min=1e-9)
    return torch.einsum("btd,bt->bd", hidden, weights)


def fine_tune(model, train, validation, *, epochs, lr, warmup=0.1, weight_decay=0.01, max_norm=1.0):
    decayed, plain = [], []
    for p in model.parameters():
        if p.requires_grad:
            (plain if p.ndim == 1 else decayed).append(p)
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0}], lr=lr
    )
    N = epochs * len(train)
    W = math.ceil(N * warmup)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda n: n / W if n < W else max(0, N - n) / max(1, N - W)
    )
    history = []
    model.zero_grad()
    for _epoch in range(epochs):
        model.train()
        losses = torch.zeros(len(train), dtype=torch.float64)
        for i, batch in enumerate(train):
            loss, *_ = model(**batch, return_dict=False)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(decayed + plain, max_norm)
            optimizer.step()
            schedule.step()
            model.zero_grad(set_to_none=True)
            losses[i] = loss.detach()
        model.eval()
        with torch.inference_mode():
            outs = [(model(**batch), batch["labels"]) for batch in validation]
        logits = torch.cat([out.logits.flatten(0, -2) for out, _ in outs])
        labels = torch.cat([y.flatten() for _, y in outs])
        real = labels != -100
        history.append(
            {
                "loss": losses.mean().item(),
                "validation_loss": torch.nn.functional.cross_entropy(logits, labels).item(),
                "accuracy": (logits.argmax(-1) == labels)[real].float().mean().item(),
            }
        )
    return history

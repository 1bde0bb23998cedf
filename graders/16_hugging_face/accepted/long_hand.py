"""Everything by hand: loops, a schedule that is written into the optimiser's groups, BERT's own template."""

import math

import torch
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors, trainers
from tokenizers.models import WordPiece
from transformers import PreTrainedTokenizerFast


def train_tokenizer(texts, size, *, lowercase=True):
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    core = Tokenizer(WordPiece(unk_token=special[1]))
    steps = [
        normalizers.BertNormalizer(
            clean_text=True, handle_chinese_chars=True, strip_accents=lowercase, lowercase=lowercase
        )
    ]
    core.normalizer = normalizers.Sequence(steps)
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.BertPreTokenizer()]
    )
    core.train_from_iterator(
        iter(list(texts)),
        trainer=trainers.WordPieceTrainer(vocab_size=size, special_tokens=special, show_progress=False),
    )
    ids = core.get_vocab()
    core.post_processor = processors.BertProcessing(("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"]))
    core.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    whole = PreTrainedTokenizerFast(
        tokenizer_object=core,
        model_input_names=("input_ids", "attention_mask", "token_type_ids"),
        model_max_length=512,
    )
    whole.add_special_tokens(
        dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), special, strict=True))
    )
    return whole


def align_labels(labels, word_ids, inside=None):
    used = [word for word in word_ids if word is not None]
    if used and max(used) >= len(labels):
        raise ValueError("too few labels")
    result = [-100 for _ in word_ids]
    for place, word in enumerate(word_ids):
        if word is None:
            continue
        begins = place == 0 or word_ids[place - 1] != word
        if begins:
            result[place] = labels[word]
        elif inside is not None:
            result[place] = inside[labels[word]] if labels[word] in inside else labels[word]
    return result


def collate(rows, pad_id, *, side="right", multiple_of=1):
    size = max(len(row["input_ids"]) for row in rows)
    while size % multiple_of:
        size += 1
    B = len(rows)
    batch = {
        "input_ids": torch.full((B, size), pad_id),
        "attention_mask": torch.zeros(B, size, dtype=torch.int64),
    }
    if "token_type_ids" in rows[0]:
        batch["token_type_ids"] = torch.zeros(B, size, dtype=torch.int64)
    per_token = "labels" in rows[0] and not isinstance(rows[0]["labels"], int)
    if per_token:
        batch["labels"] = torch.full((B, size), -100)
    elif "labels" in rows[0]:
        batch["labels"] = torch.tensor([row["labels"] for row in rows])
    for b, row in enumerate(rows):
        n = len(row["input_ids"])
        where = slice(size - n, size) if side == "left" else slice(0, n)
        batch["attention_mask"][b, where] = 1
        for name in ("input_ids", "token_type_ids", "labels"):
            if name in row and (name != "labels" or per_token):
                if len(row[name]) != n:
                    raise ValueError(f"{name} does not fit")
                batch[name][b, where] = torch.tensor(row[name])
    return batch


def mean_pool(hidden, mask):
    vectors = []
    for row, m in zip(hidden, mask.bool(), strict=True):
        kept = row[m]
        vectors.append(kept.mean(dim=0) if len(kept) else row.sum(dim=0) * 0)
    return torch.stack(vectors)


def evaluate(model, batches):
    model.eval()
    losses, right, n = 0.0, 0, 0
    with torch.no_grad():
        for batch in batches:
            out = model(**batch)
            for label, logits in zip(batch["labels"].flatten(), out.logits.flatten(0, -2), strict=True):
                if label == -100:
                    continue
                n += 1
                right += int(int(logits.argmax()) == int(label))
                losses += float(torch.logsumexp(logits, dim=0) - logits[label])
    return losses / n, right / n


def fine_tune(model, train, validation, *, epochs, lr, warmup=0.1, weight_decay=0.01, max_norm=1.0):
    groups = [
        {"params": [p], "weight_decay": weight_decay if p.dim() > 1 else 0.0}
        for p in model.parameters()
        if p.requires_grad
    ]
    optimizer = torch.optim.AdamW(groups)
    N = epochs * len(train)
    W = math.ceil(warmup * N)
    n, history = 0, []
    for p in model.parameters():
        p.grad = None
    for _ in range(epochs):
        model.train()
        total = 0.0
        for batch in train:
            for group in optimizer.param_groups:
                group["lr"] = lr * (n / W if n < W else (N - n) / (N - W))
            output = model(**batch)
            output["loss"].backward()
            torch.nn.utils.clip_grad_norm_([g["params"][0] for g in groups], max_norm)
            optimizer.step()
            optimizer.zero_grad()
            n += 1
            total += float(output["loss"].detach())
        validation_loss, accuracy = evaluate(model, validation)
        history.append({"loss": total / len(train), "validation_loss": validation_loss, "accuracy": accuracy})
    return history

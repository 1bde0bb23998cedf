"""What lies between texts and a model of the Hugging Face libraries, and around its training (unit 16).

A tokenizer is trained, labels of words become labels of tokens, rows become batches, vectors of tokens become one
vector of a sentence, and a model is fine-tuned. The libraries have a form of their own of each; these are short enough
to read.

Symbols: B rows of a batch, T tokens of the longest, D width of a vector, K classes.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from jaxtyping import Bool, Float, Int
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, get_linear_schedule_with_warmup

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def train_tokenizer(texts: Iterable[str], size: int, *, lowercase: bool = True) -> PreTrainedTokenizerFast:
    """Learn the vocabulary of a WordPiece tokenizer from texts; encode as BERT's tokenizer would with it.

    Args:
        texts: what to learn from.
        size: the number of tokens, special ones included. Fewer are learned only where the texts hold no more.
        lowercase: whether letters are made small and lose their accents, in training and ever after.

    Returns:
        A tokenizer to call as those of the library are: ``tokenizer(text)``, ``tokenizer(first, second)``,
        ``tokenizer(list_of_texts, padding=True)``, ``tokenizer.pad({"input_ids": rows})``. It hands out
        ``input_ids``, ``token_type_ids`` and ``attention_mask``. In it

        - texts are normalised as ``BertNormalizer`` does, and cut into words as ``BertPreTokenizer`` does;
        - a word is one or more tokens of the vocabulary, the longest first; a token that goes on within a word is
          written with ``##``; a word that cannot be spelled is ``[UNK]``;
        - the ids 0 to 4 are ``SPECIALS``, in this order, which the tokenizer knows as its ``pad_token``,
          ``unk_token``, ``cls_token``, ``sep_token`` and ``mask_token``;
        - one text becomes ``[CLS] … [SEP]``, with ``token_type_ids`` of 0; two become ``[CLS] … [SEP] … [SEP]``, with
          1 from the second text on;
        - ``decode`` joins the tokens of a word again.

    Source: Wu et al., 2016, section 4.1; Devlin et al., 2019, section 3.
    """
    pad, unk, cls, sep, mask = SPECIALS
    tokenizer = Tokenizer(models.WordPiece(unk_token=unk))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=list(SPECIALS), show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    tokenizer.decoder = decoders.WordPiece()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        pad_token=pad,
        unk_token=unk,
        cls_token=cls,
        sep_token=sep,
        mask_token=mask,
    )


def align_labels(
    labels: Sequence[int], word_ids: Sequence[int | None], inside: Mapping[int, int] | None = None
) -> list[int]:
    """Give every token of a text a label, from the labels of its words.

    Args:
        labels: one label for each word.
        word_ids: for each token the number of its word, counted from 0, or None for a special token; as
            ``tokenizer(words, is_split_into_words=True).word_ids()`` returns it. Words may be missing, at the end
            (the text was cut) or in between (a word left no token).
        inside: None labels the first token of each word alone. A mapping labels the others too: those of a word with
            the label i get ``inside[i]``, or i where the mapping holds no i.

    Returns:
        As many labels as tokens. Special tokens have −100, which the loss leaves out; and so have, without
        ``inside``, the tokens after the first of a word.

    Raises:
        ValueError: a token belongs to a word that has no label.

    Source: Devlin et al., 2019, section 5.3 (the first token of a word stands for it).
    """
    aligned = []
    previous = None
    for word in word_ids:
        if word is None:
            aligned.append(-100)
        elif word >= len(labels):
            raise ValueError(f"there are {len(labels)} labels, and none for word {word}")
        elif word != previous:
            aligned.append(labels[word])
        elif inside is None:
            aligned.append(-100)
        else:
            aligned.append(inside.get(labels[word], labels[word]))
        previous = word
    return aligned


def collate(
    rows: Sequence[Mapping[str, list[int] | int]], pad_id: int, *, side: str = "right", multiple_of: int = 1
) -> dict[str, Int[Tensor, "B T"]]:
    """Make a batch of rows of different lengths: pad them to the longest, and say what is padding.

    Args:
        rows: each with ``input_ids``, a list; all of them or none with ``token_type_ids``, as long, and with
            ``labels``: one number for the row, or a list with one for each token. They are left as they are;
            whatever else they hold has no part in the batch.
        pad_id: the id that stands for padding.
        side: "right" pads behind the tokens; "left" before them, as models need that go on writing at the end.
        multiple_of: T is the length of the longest row, raised to a multiple of this.

    Returns:
        int64 tensors: ``input_ids`` and ``attention_mask`` (1 at tokens, 0 at padding), both (B, T); where the rows
        have them, ``token_type_ids`` (B, T), 0 at padding, and ``labels``, (B,), or (B, T) with −100 at padding.

    Raises:
        ValueError: a list of a row is not as long as its ``input_ids``.
    """
    longest = max(len(row["input_ids"]) for row in rows)
    length = math.ceil(longest / multiple_of) * multiple_of
    fillers = {"input_ids": pad_id, "attention_mask": 0, "token_type_ids": 0, "labels": -100}
    batch = {}
    for name, filler in fillers.items():
        if name not in rows[0] and name != "attention_mask":
            continue
        lines = []
        for row in rows:
            count = len(row["input_ids"])
            line = [1] * count if name == "attention_mask" else row[name]
            if isinstance(line, int):  # one label for the row
                lines.append(line)
                continue
            if len(line) != count:
                raise ValueError(f"{len(line)} {name} for {count} input_ids")
            missing = [filler] * (length - count)
            lines.append(missing + line if side == "left" else line + missing)
        batch[name] = torch.tensor(lines, dtype=torch.int64)  # (B, T)
    return batch


def mean_pool(
    hidden: Float[Tensor, "B T D"], mask: Int[Tensor, "B T"] | Bool[Tensor, "B T"]
) -> Float[Tensor, "B D"]:
    """Average the vectors of each row's tokens, so that padding has no part in it.

    Args:
        hidden: one vector for each token.
        mask: 1 or True at tokens, 0 or False at padding, on either side.

    Returns:
        For each row the mean of its tokens' vectors, in the dtype of ``hidden``; zeros where a row has none. What
        stands at padding changes nothing, and gets a gradient of zero.

    Source: Reimers and Gurevych, "Sentence-BERT", 2019, section 3 (the MEAN strategy).
    """
    weights = mask.unsqueeze(-1)  # (B, T) -> (B, T, 1)
    total = (hidden * weights).sum(dim=1)  # (B, T, D) -> (B, D)
    return total / weights.sum(dim=1).clamp(min=1)


def fine_tune(
    model: nn.Module,
    train: Sequence[Mapping[str, Tensor]],
    validation: Sequence[Mapping[str, Tensor]],
    *,
    epochs: int,
    lr: float,
    warmup: float = 0.1,
    weight_decay: float = 0.01,
    max_norm: float = 1.0,
) -> list[dict[str, float]]:
    """Train a model on labelled batches with AdamW, one step a batch, and evaluate it after every epoch.

    A batch is a dict of tensors with ``labels`` among them, and ``model(**batch)`` returns an object with ``loss``, the
    mean over the labels that are not −100, and ``logits`` (…, K), one for each class.

    Args:
        model: what is trained. Parameters without ``requires_grad`` stay as they are.
        train: the batches of an epoch: has a length and can be gone through in every epoch, as a list or a
            ``DataLoader``. The model is in training mode for them.
        validation: batches to evaluate on: in evaluation mode, without gradients.
        epochs: how often to go through ``train``.
        lr: the highest learning rate. With N steps in all and W = ⌈warmup · N⌉, step n = 0, 1, …, N − 1 has the rate
            lr · n / W where n < W, and lr · (N − n) / (N − W) otherwise.
        warmup: the share of the steps in which the rate rises.
        weight_decay: AdamW's, of parameters with two dimensions or more; biases and norms have none.
        max_norm: the length to which the gradients of each step are clipped together.

    Returns:
        For each epoch a dict of floats: ``loss``, the mean over its training steps; ``validation_loss`` and
        ``accuracy``, over all labels of ``validation`` that are not −100, each of which counts the same. In the end
        the model is in evaluation mode.

    Gradients that the model has at the start have no part in the first step.

    Source: Devlin et al., 2019, appendix A.3; the schedule is ``transformers.get_linear_schedule_with_warmup``.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    matrices = {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay}
    vectors = {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0}
    optimizer = torch.optim.AdamW([matrices, vectors], lr=lr)
    steps = epochs * len(train)
    schedule = get_linear_schedule_with_warmup(optimizer, math.ceil(warmup * steps), steps)
    history = []
    for _ in range(epochs):
        model.train()
        losses = []
        for batch in train:
            optimizer.zero_grad()
            loss = model(**batch).loss
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, max_norm)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        model.eval()
        summed, right, count = 0.0, 0, 0
        for batch in validation:
            with torch.no_grad():
                output = model(**batch)
            real = batch["labels"] != -100
            right += (output.logits.argmax(dim=-1) == batch["labels"])[real].sum().item()
            summed += output.loss.item() * real.sum().item()
            count += real.sum().item()
        history.append(
            {
                "loss": sum(losses) / len(losses),
                "validation_loss": summed / count,
                "accuracy": right / count,
            }
        )
    return history

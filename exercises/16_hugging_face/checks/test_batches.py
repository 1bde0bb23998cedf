"""Checks of unit 16, second part: batches of ragged rows, and the mean over the tokens of each.

A batch is judged entry by entry, and by a small random BERT of ``transformers``: what it says of a text must not
depend on the texts beside it.
"""

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel

from proctor import expect
from proctor.proxies import sketch

INT = torch.int64


def rows_of(rng, lengths, low=5, high=40, **more):
    """Rows of such lengths; ``more`` names what they hold besides: per token ("each") or a number ("one")."""
    rows = []
    for length in lengths:
        row = {"input_ids": [int(i) for i in rng.integers(low, high, length)]}
        if "types" in more:
            row["token_type_ids"] = [int(i) for i in np.sort(rng.integers(0, 2, length))]
            row["token_type_ids"][-1] = 1
        if more.get("labels") == "each":
            row["labels"] = [-100, *[int(i) for i in rng.integers(0, 6, length - 1)]]
        if more.get("labels") == "one":
            row["labels"] = int(rng.integers(0, 6))
        rows.append(row)
    return rows


def ragged(rng, count=4):
    """Different lengths, the longest neither first nor last."""
    lengths = [int(n) for n in rng.permutation(np.arange(2, 9))[: count - 1]]
    lengths.insert(int(rng.integers(1, count - 1)), int(rng.choice([9, 11])))
    return lengths


def padded(lines, filler, size, side="right"):
    """Lists as a tensor, filled up on one side."""
    full = []
    for line in lines:
        rest = [filler] * (size - len(line))
        full.append(rest + list(line) if side == "left" else list(line) + rest)
    return torch.tensor(full, dtype=INT)


def wanted_of(rows, pad_id, side="right", multiple=1):
    """The batch as it should be."""
    size = max(len(row["input_ids"]) for row in rows)
    size = -(-size // multiple) * multiple
    batch = {
        "input_ids": padded([row["input_ids"] for row in rows], pad_id, size, side),
        "attention_mask": padded([[1] * len(row["input_ids"]) for row in rows], 0, size, side),
    }
    if "token_type_ids" in rows[0]:
        batch["token_type_ids"] = padded([row["token_type_ids"] for row in rows], 0, size, side)
    if "labels" in rows[0]:
        labels = [row["labels"] for row in rows]
        one = isinstance(labels[0], int)
        batch["labels"] = torch.tensor(labels) if one else padded(labels, -100, size, side)
    return batch


@pytest.mark.exercise("collate")
class TestCollate:
    def batch(self, student, rows, pad_id, names=("input_ids", "attention_mask"), **options):
        """The learner's batch: a dict of int64 tensors with these names."""
        batch = student.collate(rows, pad_id, **options)
        ask = "A model is called as model(**batch). Which names does it know?"
        several = isinstance(batch, dict)
        got = "None" if batch is None else f"{type(batch).__name__}: {sketch(batch)}"
        expect.holds(several, expected=f"a dict of tensors with {', '.join(names)}", got=got[:100], ask=ask)
        extra = [str(name) for name in batch if name not in names]
        missing = [name for name in names if name not in batch]
        got = f"without {', '.join(missing)}" if missing else f"{', '.join(extra)[:80]} besides"
        if "token_type_ids" in missing:
            ask = "Without them every token belongs to the first text. Which of the rows' lists were left behind?"
        expect.holds(not missing and not extra, expected=f"{', '.join(names)}", got=got, ask=ask)
        return batch

    def mask_mistakes(self, rows, pad_id, wanted):
        return {
            "1 at padding and 0 at tokens: the mask is the wrong way round": 1 - wanted["attention_mask"],
            "ones everywhere: padding is attended to": torch.ones_like(wanted["attention_mask"]),
            "0 at a token whose id is pad_id. In some models padding has the id of a real token, such "
            "as the end of a text; "
            "what is padding, the lengths say": (wanted["input_ids"] != pad_id).long(),
            "the lengths, not a mask": torch.tensor([len(row["input_ids"]) for row in rows]),
        }

    @pytest.mark.points(2)
    def test_pads_to_the_longest_row(self, student, rng):
        """pads the ids to the longest row of the batch, and says what is padding"""
        for lengths in (ragged(rng), [3], [4, 4]):
            pad_id = int(rng.integers(1, 5))
            rows = rows_of(rng, lengths)
            batch = self.batch(student, rows, pad_id)
            wanted = wanted_of(rows, pad_id)
            size, short = max(lengths), min(lengths)
            ask = "How wide is this batch, and what is each row filled up with, on which side?"
            mistakes = {
                "padding with the id 0: pad_id says which id it is": padded([r["input_ids"] for r in rows], 0, size),
                "padding with −100, which is for labels": padded([r["input_ids"] for r in rows], -100, size),
                "padding before the tokens: the default is behind them": wanted_of(rows, pad_id, "left")["input_ids"],
                "rows cut to the shortest of them": padded([r["input_ids"][:short] for r in rows], 0, short),
                "one position of padding more than is needed": padded([r["input_ids"] for r in rows], pad_id, size + 1),
                "rows sorted by length: row i of the batch is row i of `rows`": wanted["input_ids"][
                    sorted(range(len(rows)), key=lambda i: len(rows[i]["input_ids"]))
                ],
                "rows sorted by length, the longest first: row i of the batch is row i of `rows`": wanted["input_ids"][
                    sorted(range(len(rows)), key=lambda i: -len(rows[i]["input_ids"]))
                ],
            }  # fmt: skip
            got = batch["input_ids"]
            if isinstance(got, torch.Tensor) and got.ndim == 2 and got.shape[1] > size:
                ask = "Padding to a fixed length computes what nobody reads. How long is the longest row of this batch?"
            if isinstance(got, torch.Tensor) and got.dtype == torch.int32:
                ask = "Which dtype does torch.tensor give to whole numbers, unless it is told another?"
            expect.equal(got, wanted["input_ids"], what="input_ids", ask=ask, mistakes=mistakes)
            expect.equal(
                batch["attention_mask"],
                wanted["attention_mask"],
                what="attention_mask",
                ask="1 at tokens, 0 at padding, int64: what is yours made from?",
                mistakes=self.mask_mistakes(rows, pad_id, wanted),
            )

    @pytest.mark.points(2)
    @pytest.mark.needs("test_pads_to_the_longest_row")
    def test_mask_comes_from_lengths(self, student, rng):
        """takes a token for a token, even if its id is that of padding"""
        pad_id = int(rng.integers(5, 9))
        rows = rows_of(rng, ragged(rng))
        for row in rows:
            row["input_ids"][int(rng.integers(len(row["input_ids"])))] = pad_id
            row["input_ids"][-1] = pad_id
        batch, wanted = self.batch(student, rows, pad_id), wanted_of(rows, pad_id)
        mistakes = self.mask_mistakes(rows, pad_id, wanted)
        ask = "GPT-2 ends its texts with the id that also pads them. Does your mask ask the lengths, or the ids?"
        expect.equal(
            batch["attention_mask"],
            wanted["attention_mask"],
            what="attention_mask",
            ask=ask,
            mistakes=mistakes,
        )
        expect.equal(batch["input_ids"], wanted["input_ids"], what="input_ids", ask=ask)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_pads_to_the_longest_row")
    @pytest.mark.draws(2)
    def test_padding_changes_no_output(self, student, rng):
        """makes batches in which a model says of each text what it says of it alone"""
        config = BertConfig(
            vocab_size=40,
            hidden_size=8,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=16,
            pad_token_id=0,
        )
        model = BertModel(config, add_pooling_layer=False).eval()
        for parameter in model.parameters():
            parameter.data = rng.tensor(*parameter.shape, scale=0.5)
        lengths, pad_id = ragged(rng), int(rng.integers(5, 9))
        rows = rows_of(rng, lengths, types=True)
        batch = self.batch(student, rows, pad_id, ("input_ids", "attention_mask", "token_type_ids"))
        wanted = wanted_of(rows, pad_id)
        for name, tensor in wanted.items():
            expect.array(batch[name], shape=tuple(tensor.shape), dtype=INT, what=name)
            low, high = int(batch[name].min()), int(batch[name].max())
            top = 39 if name == "input_ids" else 1
            expect.holds(
                low >= 0 and high <= top,
                expected=f"{name} between 0 and {top}",
                got=f"numbers from {low} to {high}",
                ask="−100 is for labels. What stands for padding here?",
            )
        with torch.no_grad():
            out = model(**{name: batch[name] for name in wanted}).last_hidden_state
            for i, row in enumerate(rows):
                alone = model(**wanted_of([row], pad_id)).last_hidden_state[0]
                off = (out[i, : lengths[i]] - alone).abs().max().item()
                expect.holds(
                    off < 1e-4,
                    expected=f"the same vectors for row {i} alone and in the batch",
                    got=f"a difference of {off:.2g}: padding, or another row, has changed them",
                    ask="What tells a model which positions to leave out of its attention, and which "
                    "text a token belongs to?",
                )

    @pytest.mark.points(2)
    @pytest.mark.needs("test_pads_to_the_longest_row")
    def test_labels_of_tokens(self, student, rng):
        """pads labels of tokens with −100, and lets every label stand at its token"""
        lengths, pad_id = ragged(rng), int(rng.integers(1, 5))
        rows = rows_of(rng, lengths, labels="each")
        names = ("input_ids", "attention_mask", "labels")
        batch, wanted = self.batch(student, rows, pad_id, names), wanted_of(rows, pad_id)
        size, short = max(lengths), min(lengths)
        lines = [row["labels"] for row in rows]
        mistakes = {
            "labels padded with 0, which is a class: the loss would count padding": padded(lines, 0, size),
            "labels padded with pad_id: the loss would count padding": padded(lines, pad_id, size),
            "labels padded with −1. PyTorch leaves out −100": padded(lines, -1, size),
            "labels cut to the shortest row": padded([line[:short] for line in lines], 0, short),
            "labels cut to one for each row": torch.tensor([line[0] for line in lines]),
        }
        ask = "Which label does the loss leave out, and is there one for every token?"
        expect.equal(batch["labels"], wanted["labels"], what="labels", ask=ask, mistakes=mistakes)
        expect.equal(batch["input_ids"], wanted["input_ids"], what="input_ids", ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_pads_to_the_longest_row")
    def test_labels_of_rows(self, student, rng):
        """takes one label for each row as it is"""
        for count in (4, 1):
            lengths = ragged(rng) if count > 1 else [5]
            rows = rows_of(rng, lengths, labels="one")
            batch = self.batch(student, rows, 1, ("input_ids", "attention_mask", "labels"))
            wanted = wanted_of(rows, 1)["labels"]
            size = max(lengths)
            mistakes = {
                "a label for every position: one for each row is enough": wanted[:, None].expand(-1, size),
                "labels in a column, (B, 1): a loss expects (B,)": wanted[:, None],
                "labels padded like those of tokens": padded([[int(y)] for y in wanted], -100, size),
            }
            ask = "How do you tell a number from a list, and what is there to pad in a number?"
            expect.equal(batch["labels"], wanted, what="labels", ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_labels_of_tokens")
    def test_left(self, student, rng):
        """pads before the tokens with side="left", everything alike"""
        pad_id = int(rng.integers(1, 5))
        rows = rows_of(rng, ragged(rng), types=True, labels="each")
        names = ("input_ids", "attention_mask", "token_type_ids", "labels")
        batch = self.batch(student, rows, pad_id, names, side="left")
        wanted, right = wanted_of(rows, pad_id, "left"), wanted_of(rows, pad_id)
        ask = (
            "Ids, mask, types and labels belong together, position by position. Which of them does "
            "your code fill up from where?"
        )
        for name in names:
            mistakes = {
                "padding behind the tokens": right[name],
                "rows that were turned round": right[name].flip(1),
            }
            expect.equal(
                batch[name], wanted[name], what=f'{name} with side="left"', ask=ask, mistakes=mistakes
            )
        batch = self.batch(student, rows, pad_id, names, side="right")
        for name in names:
            expect.equal(batch[name], right[name], what=f'{name} with side="right"', ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_labels_of_tokens")
    def test_multiple_of(self, student, rng):
        """raises the width to a multiple, and only if it is none already"""
        pad_id = int(rng.integers(1, 5))
        names = ("input_ids", "attention_mask", "token_type_ids", "labels")
        for longest, multiple in ((9, 4), (8, 4), (5, 8), (6, 1), (4, 3)):
            rows = rows_of(rng, [longest - 2, longest], types=True, labels="each")
            wanted = wanted_of(rows, pad_id, multiple=multiple)
            width = wanted["input_ids"].shape[1]
            batch = self.batch(student, rows, pad_id, names, multiple_of=multiple)
            ask = (
                f"The longest row has {longest} tokens. Which is the smallest multiple of {multiple} "
                f"that is not below?"
            )
            for name in names:
                got = batch[name]
                if isinstance(got, torch.Tensor) and got.ndim == 2 and got.shape[1] != width:
                    expect.fail(
                        expected=f"{name} of width {width} for multiple_of={multiple}",
                        got=f"width {got.shape[1]}",
                        ask=ask,
                    )
                expect.equal(got, wanted[name], what=name, ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_labels_of_tokens")
    def test_what_rows_hold(self, student, rng):
        """leaves the rows as they are, and out of the batch what belongs in none"""
        rows = rows_of(rng, ragged(rng), types=True, labels="each")
        extra = [
            {**row, "attention_mask": [1] * len(row["input_ids"]), "text": "a b", "word_ids": [None, 0]}
            for row in rows
        ]
        wanted = wanted_of(rows, 3)
        batch = self.batch(student, extra, 3, tuple(wanted))
        for name, tensor in wanted.items():
            expect.equal(batch[name], tensor, what=name, ask="Which of a row's entries belong in a batch?")
        # Rows as the tokenizers of `transformers` hand them out stay on the learner's side: what is done to them shows.
        handed = [student.transformers.BatchEncoding(row) for row in rows]
        self.batch(student, handed, 3, tuple(wanted))
        for row, one in zip(rows, handed, strict=True):
            expect.holds(
                one.data == row,
                expected="rows that are left as they are",
                got="rows that were changed by the call",
                ask="Which line writes into a row, or into one of its lists (`+=`, `append`, `pop`, `row[...] =`)?",
            )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_labels_of_tokens")
    def test_refuses_lists_that_do_not_fit(self, student, rng):
        """raises ValueError where a list of a row is not as long as its ids"""
        rows = rows_of(rng, ragged(rng), types=True, labels="each")
        ask = "A label too few moves all that follow to another token. Is each list compared with input_ids?"
        i = 1
        for name in ("labels", "token_type_ids"):
            for change in (lambda line: line[:-1], lambda line: [*line, 1]):
                wrong = [dict(row) for row in rows]
                wrong[i][name] = change(rows[i][name])
                when = (
                    f"for {len(wrong[i][name])} {name} and {len(rows[i]['input_ids'])} input_ids in row {i}"
                )
                for some in (wrong, wrong[i : i + 1]):  # alone, what does not fit makes a rectangle, too
                    expect.raises(ValueError, lambda s=some: student.collate(s, 3), when=when, ask=ask)


@pytest.mark.exercise("mean_pool")
class TestMeanPool:
    def mask(self, rng, B, T):
        """Ragged rows, padded behind or before."""
        lengths = torch.from_numpy(rng.permutation(np.r_[T, rng.integers(1, T + 1, B - 1)]))
        mask = (torch.arange(T) < lengths[:, None]).long()
        left = torch.from_numpy(rng.random(B) < 0.5)[:, None]
        return torch.where(left, mask.flip(1), mask)

    def by_hand(self, hidden, mask):
        return torch.stack(
            [
                row[m.bool()].mean(0) if m.any() else torch.zeros_like(row[0])
                for row, m in zip(hidden, mask, strict=True)
            ]
        )

    def wrong(self, hidden, mask):
        B, T, _ = hidden.shape
        m = mask.to(hidden.dtype)[..., None]
        total = (hidden * m).sum(1)
        first = mask.long().argmax(1)
        return {
            "the mean over all positions, padding too. What stands there is not zero": hidden.mean(1),
            "the sum over tokens divided by T, padding counted": total / T,
            "the sum over tokens, divided by nothing": total,
            "the mean of padding: the mask is the wrong way round": (
                (hidden * (1 - m)).sum(1) / (1 - m).sum(1).clamp(min=1)
            ),
            "the sum over tokens divided by the number of tokens in the whole batch": total / m.sum(),
            "the sum over tokens divided by B": total / B,
            "the first vector of each row": hidden[:, 0],
            "the vector of the first token of each row": hidden[torch.arange(B), first],
            "the last vector of each row": hidden[:, -1],
            "the largest entries, not the mean": hidden.masked_fill(m == 0, -torch.inf).amax(1),
            "means scaled to length one: that is a step of its own": lambda: torch.nn.functional.normalize(
                total / m.sum(1), dim=-1
            ),
            "one mean of the whole batch": (total.sum(0) / m.sum()).expand(B, -1),
            "the sum over all positions divided by the number of tokens": hidden.sum(1) / m.sum(1),
            "the count raised by one": total / (m.sum(1) + 1),
        }  # fmt: skip

    @pytest.mark.points(2)
    def test_mean_of_tokens(self, student, rng):
        """averages the tokens of each row, and no padding"""
        B, T, D = rng.distinct(3, low=3)
        for shape in ((B, T, D), (T, T, T), (1, T, D), (B, 1, D)):
            hidden = rng.tensor(*shape) + 1
            mask = self.mask(rng, *shape[:2])
            out = student.mean_pool(hidden, mask)
            ask = "Which positions belong to the sum, and how many are these in each row?"
            if (
                isinstance(out, torch.Tensor)
                and tuple(out.shape) == (shape[0], shape[1])
                and shape[1] != shape[2]
            ):
                ask = "What is summed over: the tokens, or the entries of a vector?"
            expect.close(
                out,
                self.by_hand(hidden, mask),
                what="the vectors of the rows",
                ask=ask,
                mistakes=lambda h=hidden, m=mask: self.wrong(h, m),
            )

    @pytest.mark.points(2)
    @pytest.mark.needs("test_mean_of_tokens")
    def test_padding_counts_for_nothing(self, student, rng):
        """says the same whatever stands at padding, and sends no gradient there"""
        B, T, D = rng.distinct(3, low=3)
        hidden, mask = rng.tensor(B, T, D), self.mask(rng, B, T)
        mask[0, 0], mask[0, -1] = 1, 0
        one = student.mean_pool(hidden, mask)
        expect.array(one, shape=(B, D), dtype=torch.float32, what="the vectors of the rows")
        other = torch.where(mask[..., None] == 1, hidden, rng.tensor(B, T, D, scale=100.0))
        two = student.mean_pool(other, mask)
        ask = "What did a position at padding do to the mean?"
        expect.close(two, one, what="the same vectors with other numbers at padding", ask=ask)
        given = rng.tensor(B, D)
        hidden.requires_grad_()
        found = expect.gradient(student.mean_pool(hidden, mask), hidden, given)
        share = mask / mask.sum(1, keepdim=True)
        expected = share[..., None] * given[:, None]
        ask = "A token's share of the mean is 1 over the number of tokens in its row, that of padding is 0."
        expect.close(found, expected, what="the gradient", ask=ask)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_mean_of_tokens")
    def test_row_without_tokens(self, student, rng):
        """answers zero, and a gradient of zero, for a row without tokens"""
        B, T, D = rng.distinct(3, low=3)
        hidden, mask = rng.tensor(B, T, D), self.mask(rng, B, T)
        mask[int(rng.integers(B))] = 0
        expected = self.by_hand(hidden, mask)
        empty = (mask.sum(1) == 0)[:, None]
        mistakes = {
            "NaN where a row has no token: 0 / 0": expected.masked_fill(empty, torch.nan),
            "the mean of all positions where a row has no token": torch.where(
                empty, hidden.mean(1), expected
            ),
        }
        ask = "What is the sum divided by, where no token is counted?"
        hidden.requires_grad_()
        for form in (mask, mask.bool()):
            out = student.mean_pool(hidden, form)
            expect.close(out, expected, what="the vectors of the rows", ask=ask, mistakes=mistakes)
            found = expect.gradient(out, hidden)
            share = mask / mask.sum(1, keepdim=True).clamp(min=1)
            expect.close(found, share[..., None].expand(-1, -1, D), what="the gradient", ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_mean_of_tokens")
    def test_dtypes(self, student, rng):
        """takes masks of numbers and of truths, keeps the dtype, and leaves its inputs alone"""
        B, T, D = rng.distinct(3, low=3)
        hidden, mask = rng.tensor(B, T, D, dtype=torch.float64), self.mask(rng, B, T)
        for form in (mask, mask.bool(), mask.int()):
            with expect.unchanged(hidden=hidden, mask=form):
                out = student.mean_pool(hidden, form)
            ask = "In which dtype do the vectors come, and in which are they averaged?"
            expect.array(out, shape=(B, D), dtype=torch.float64, what="the vectors of the rows", ask=ask)
            expect.close(out, self.by_hand(hidden, mask), atol=1e-9, rtol=1e-9, what="the vectors", ask=ask)
        half = student.mean_pool(hidden.bfloat16(), mask)
        expect.array(
            half,
            shape=(B, D),
            dtype=torch.bfloat16,
            what="the vectors",
            ask="Which dtype did the mask bring in?",
        )
        expect.gradients(lambda hidden: student.mean_pool(hidden, mask), hidden=hidden)

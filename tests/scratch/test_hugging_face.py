"""What lies between texts and a published model: tokenizer, labels, batches, pooling, fine-tuning."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertTokenizer,
    DataCollatorForTokenClassification,
)

from scratch.hugging_face import SPECIALS, align_labels, collate, fine_tune, mean_pool, train_tokenizer

TEXTS = ["Olá, Mundo! Hello world.", "Quinta-feira, 12 de março", "world worlds worldly São"] * 4
TEXT = st.text(st.sampled_from("abcdeóçÃ WÉ,.!-1日\t"), max_size=30)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, 120)


class TestTrainTokenizer:
    @given(TEXT, TEXT)
    def test_it_encodes_as_bert_does_with_its_vocabulary(self, tokenizer, text: str, second: str) -> None:
        theirs = BertTokenizer(vocab=tokenizer.get_vocab())
        assert tokenizer(text).data == theirs(text).data
        assert tokenizer(text, second).data == theirs(text, second).data
        ids = theirs(text)["input_ids"]
        assert tokenizer.decode(ids) == theirs.decode(ids)

    def test_special_tokens_come_first_and_are_known(self, tokenizer) -> None:
        assert tokenizer.convert_ids_to_tokens(range(5)) == list(SPECIALS)
        assert [tokenizer.pad_token, tokenizer.unk_token, tokenizer.mask_token] == [
            "[PAD]",
            "[UNK]",
            "[MASK]",
        ]

    def test_case_and_accents_are_kept_if_wanted(self) -> None:
        kept = train_tokenizer(TEXTS, 120, lowercase=False)
        assert "".join(kept.tokenize("Olá")).replace("#", "") == "Olá"

    def test_it_is_what_was_saved(self, tokenizer, tmp_path) -> None:
        from transformers import AutoTokenizer

        tokenizer.save_pretrained(tmp_path)
        again = AutoTokenizer.from_pretrained(tmp_path)
        assert again(TEXTS[:3], padding=True).data == tokenizer(TEXTS[:3], padding=True).data


class TestAlignLabels:
    WORDS = (None, 0, 0, 1, 3, 3, 3, None)

    def test_the_first_token_stands_for_its_word(self) -> None:
        assert align_labels([4, 5, 6, 7], self.WORDS) == [-100, 4, -100, 5, 7, -100, -100, -100]

    def test_the_others_are_labelled_by_inside(self) -> None:
        assert align_labels([4, 5, 6, 7], self.WORDS, {4: 8}) == [-100, 4, 8, 5, 7, 7, 7, -100]
        assert align_labels([4, 5, 6, 7], self.WORDS, {}) == [-100, 4, 4, 5, 7, 7, 7, -100]

    def test_words_without_a_label_are_refused(self) -> None:
        with pytest.raises(ValueError, match="none for word 3"):
            align_labels([4, 5, 6], self.WORDS)


rows_strategy = st.lists(
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 1), st.integers(-1, 4)), min_size=1, max_size=7),
    min_size=1,
    max_size=5,
)


def as_rows(drawn):
    return [
        {
            "input_ids": [r[0] for r in row],
            "token_type_ids": [r[1] for r in row],
            "labels": [r[2] for r in row],
        }
        for row in drawn
    ]


class TestCollate:
    @given(rows_strategy, st.sampled_from(["left", "right"]), st.integers(1, 4))
    def test_it_is_the_collator_of_the_library(self, tokenizer, drawn, side: str, multiple: int) -> None:
        rows = as_rows(drawn)
        tokenizer.padding_side = side
        theirs = DataCollatorForTokenClassification(tokenizer, pad_to_multiple_of=multiple)(
            [{**row, "attention_mask": [1] * len(row["input_ids"])} for row in rows]
        )
        tokenizer.padding_side = "right"
        ours = collate(rows, tokenizer.pad_token_id, side=side, multiple_of=multiple)
        assert ours.keys() == theirs.keys()
        for name in ours:
            assert torch.equal(ours[name], theirs[name]), name

    def test_one_label_for_each_row(self) -> None:
        batch = collate([{"input_ids": [1, 2], "labels": 3}, {"input_ids": [4], "labels": 0}], 9)
        assert batch["labels"].tolist() == [3, 0]
        assert batch["input_ids"].tolist() == [[1, 2], [4, 9]]
        assert list(batch) == ["input_ids", "attention_mask", "labels"]

    @pytest.mark.parametrize("name", ["labels", "token_type_ids"])
    def test_lists_that_do_not_fit_are_refused(self, name: str) -> None:
        with pytest.raises(ValueError, match=f"1 {name} for 2 input_ids"):
            collate([{"input_ids": [1, 2], name: [1]}], 0)


class TestMeanPool:
    def test_padding_counts_for_nothing(self) -> None:
        hidden = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
        mask = torch.tensor([[1, 1, 0, 0], [0, 1, 1, 1], [0, 0, 0, 0]])
        out = mean_pool(hidden, mask)
        torch.testing.assert_close(out[0], hidden[0, :2].mean(0))
        torch.testing.assert_close(out[1], hidden[1, 1:].mean(0))
        assert out[2].eq(0).all()
        assert torch.equal(mean_pool(hidden, mask.bool()), out)
        assert mean_pool(hidden.half(), mask).dtype == torch.float16


class Line(nn.Module):
    """A model of one line, which tells what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(2, 2)
        self.modes: list[bool] = []

    def forward(self, x: Tensor, labels: Tensor) -> SimpleNamespace:
        self.modes.append(self.training)
        logits = self.line(x)
        return SimpleNamespace(loss=nn.functional.cross_entropy(logits, labels), logits=logits)


class TestFineTune:
    def batches(self, count: int, seed: int):
        random = torch.Generator().manual_seed(seed)
        xs = [torch.randn(8, 2, generator=random) for _ in range(count)]
        return [{"x": x, "labels": (x[:, 0] > x[:, 1]).long()} for x in xs]

    def test_it_learns_and_says_how_well(self) -> None:
        torch.manual_seed(0)
        model = Line()
        history = fine_tune(model, self.batches(10, 0), self.batches(3, 1), epochs=6, lr=0.1)
        assert len(history) == 6
        assert history[-1]["accuracy"] > 0.85
        assert history[-1]["loss"] < history[0]["loss"]
        assert model.modes == ([True] * 10 + [False] * 3) * 6
        assert not model.training

    def test_labels_that_do_not_count_are_left_out(self) -> None:
        torch.manual_seed(0)
        model, batches = Line(), self.batches(2, 1)
        short = [{**batches[0]}, {**batches[1], "labels": batches[1]["labels"].clone()}]
        short[1]["labels"][3:] = -100
        (entry,) = fine_tune(model, self.batches(1, 0), short, epochs=1, lr=0.0)
        with torch.no_grad():
            logits = model.line(torch.cat([b["x"] for b in short]))
        labels = torch.cat([b["labels"] for b in short])
        real = labels != -100
        assert math.isclose(entry["accuracy"], (logits.argmax(-1) == labels)[real].double().mean())
        assert math.isclose(
            entry["validation_loss"], nn.functional.cross_entropy(logits, labels).item(), rel_tol=1e-5
        )

    def test_it_fine_tunes_a_model_of_the_library_and_leaves_frozen_weights(self) -> None:
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=20, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
        )
        model = BertForSequenceClassification(config)
        frozen = model.bert.embeddings.position_embeddings.requires_grad_(False)
        before = frozen.weight.clone()
        random = torch.Generator().manual_seed(1)
        rows = []
        for _ in range(96):
            label = int(torch.randint(0, 2, (), generator=random))
            others = torch.randint(5, 18, (int(torch.randint(2, 6, (), generator=random)),), generator=random)
            rows.append({"input_ids": [2, *others.tolist(), 18 + label, 3], "labels": label})
        batches = [collate(rows[i : i + 16], 0) for i in range(0, 96, 16)]
        history = fine_tune(model, batches[:4], batches[4:], epochs=12, lr=1e-2)
        assert history[-1]["accuracy"] > 0.9
        assert torch.equal(frozen.weight, before)

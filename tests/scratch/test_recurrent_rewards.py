"""The models around the cells, and the last cell of unit 06: it writes where the answers work, or says why not."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import nbformat
import pytest
import torch
from torch import nn

from scratch import recurrent
from scratch.data.names import load_names
from scratch.recurrent_models import END, GATES, CharacterModel, RecurrentLayer
from scratch.recurrent_rewards import NAMES, bigram_surprise, learn_names, write_names

RELEASE = Path(__file__).parents[2] / "exercises" / "06_recurrent" / "recurrent.ipynb"
WORDS = ["Lima", "Oslo", "Rio", "Ulm"]


def layer_of(cell: str, width: int = 3, hidden: int = 5) -> RecurrentLayer:
    return RecurrentLayer(getattr(recurrent, cell), recurrent.run_masked, GATES[cell], width, hidden)


@pytest.fixture
def stubs() -> dict[str, Any]:
    """The notebook's names as the exercise comes: nothing is written yet."""
    namespace: dict[str, Any] = {}
    for cell in nbformat.read(RELEASE, as_version=4).cells:
        if cell.id in ("setup", *NAMES):
            exec(cell.source, namespace)
    return namespace


class TestRecurrentLayer:
    @pytest.mark.parametrize(
        ("cell", "kind"), [("rnn_cell", "RNN"), ("lstm_cell", "LSTM"), ("gru_cell", "GRU")]
    )
    def test_is_pytorchs_layer_on_the_same_weights(self, cell: str, kind: str) -> None:
        layer = layer_of(cell)
        twin = getattr(nn, kind)(3, 5, batch_first=True)
        for name in ("w_ih", "w_hh", "b_ih", "b_hh"):
            theirs = f"{'weight' if name[0] == 'w' else 'bias'}_{name[2:]}_l0"
            getattr(twin, theirs).data = getattr(layer, name).data
        x = torch.randn(2, 4, 3)
        torch.testing.assert_close(layer(x, layer.start(2))[0], twin(x)[0])


class TestCharacterModel:
    @pytest.mark.parametrize("cell", GATES)
    def test_surprise_is_that_of_each_name_by_itself_ends_included(self, cell: str) -> None:
        torch.manual_seed(0)
        model = CharacterModel(layer_of(cell), WORDS, 3, dropout=0.5)
        total = 0.0
        for word in WORDS:
            ids = model.encode(END + word + END)
            scores, _ = model.eval()(ids[None, :-1], model.layer.start(1))
            total += nn.functional.cross_entropy(scores[0], ids[1:], reduction="sum").item()
        model.train()
        assert model.surprise(WORDS) == pytest.approx(total / len("".join(WORDS) + 4 * END), rel=1e-5)
        assert model.training

    def test_a_stream_holds_the_names_one_after_the_other_and_targets_are_a_step_ahead(self) -> None:
        model = CharacterModel(layer_of("gru_cell"), WORDS, 3)
        inputs, targets = model.stream(WORDS, lanes=3)
        read = "".join(model.characters[i] for i in inputs.flatten())
        assert (END + END.join(WORDS) + END).startswith(read)
        assert torch.equal(inputs.flatten()[1:], targets.flatten()[:-1])

    def test_writing_is_seeded_ends_once_and_leaves_the_global_generator_alone(self) -> None:
        model = CharacterModel(layer_of("lstm_cell"), WORDS, 3)
        before = torch.get_rng_state()
        names = model.write(6, temperature=1.0, seed=3, longest=8)
        assert names == model.write(6, temperature=1.0, seed=3, longest=8)
        assert torch.equal(before, torch.get_rng_state())
        for name in names:
            assert 1 <= len(name) <= 9
            assert all(character != END for character, _ in name[:-1])
            assert all(0 < share < 1 for _, share in name)


class TestTheReward:
    @pytest.mark.parametrize("written", range(len(NAMES)))
    def test_it_waits_for_the_first_exercise_that_is_missing(
        self, written: int, stubs: dict[str, Any], capsys: pytest.CaptureFixture[str]
    ) -> None:
        answers = {name: getattr(recurrent, name) for name in NAMES[:written]}
        assert write_names({**stubs, **answers}, epochs=1) is None
        out = f"This picture waits for `{NAMES[written]}`, which is not written yet.\n"
        assert capsys.readouterr().out == out

    def test_it_writes_where_all_is_written_and_leaves_the_global_generator_alone(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = torch.get_rng_state()
        picture = write_names(vars(recurrent), epochs=3)
        assert "24 names that a model has written" in picture.alt
        assert torch.equal(before, torch.get_rng_state())
        assert "that no model has seen" in capsys.readouterr().out

    @pytest.mark.parametrize("name", NAMES[:4])
    @pytest.mark.parametrize(
        "value", [None, "garbage", torch.full((2, 3), torch.nan)], ids=["None", "text", "NaN"]
    )
    def test_wrong_answers_are_told_and_raise_nothing(
        self, name: str, value: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        answers = {**vars(recurrent), name: lambda *args, **kwargs: value}
        assert write_names(answers, epochs=1) is None
        assert "waits until the checks above pass" in capsys.readouterr().out

    def test_where_nothing_is_learned_it_says_so(self, capsys: pytest.CaptureFixture[str]) -> None:
        def lazy(model, loss_of, inputs, targets, state, optimizer, *, chunk, max_norm=None):
            return [], state

        assert write_names({**vars(recurrent), "truncated_bptt": lazy}, epochs=2) is None
        assert "waits until the checks above pass" in capsys.readouterr().out

    def test_a_few_epochs_beat_counts_of_pairs(self) -> None:
        names, held_out = load_names()
        _, seen = learn_names(vars(recurrent), "gru_cell", 8)
        assert seen[-1] < bigram_surprise(names, held_out) < seen[0]

    def test_counts_of_pairs_are_probabilities(self) -> None:
        certain = bigram_surprise(["ab"] * 1000, ["ab"])
        assert certain == pytest.approx(-math.log(1001 / 1003), rel=1e-6)

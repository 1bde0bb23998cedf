"""The drawings and charts of unit 12: they say in words what they show, and what they show is what was computed."""

import pytest
import torch

from scratch import transformer_plots as plots
from scratch.attention import causal_mask
from scratch.transformer import Transformer, parameter_budget


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Transformer(20, 8, 2, 12, 2).eval()


def test_the_shifted_target_is_told_from_what_is_read():
    picture = plots.shifted("stop", "pots")
    assert "The decoder reads ⟨s⟩ p o t s. It is to say p o t s ⟨/s⟩" in picture.alt
    assert "<img" in picture.to_html()


def test_decoder_layers_are_drawn_in_both_kinds():
    picture = plots.decoder_layers()
    assert len(picture.axes) == 2
    texts = [[text.get_text() for text in ax.texts] for ax in picture.axes]
    assert all(text.count("norm") == 3 for text in texts)
    assert [text.index("norm") < text.index("causal self-attention") for text in texts] == [False, True]


def test_a_budget_shows_every_part_and_its_sum():
    parts = parameter_budget(37_000, 512, 2048, 6)
    picture = plots.budget({"base": parts})
    assert all(part in picture.alt for part in parts)
    assert "base: 63.1 million" in picture.alt
    assert len(picture.axes[0].patches) >= len(parts)


def test_the_nearest_row_is_named():
    table = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    picture = plots.nearest(table, torch.tensor([0.1, 2.0]), ["a", "b", "c"])
    assert "b fits best" in picture.alt
    assert "a 0.1, b 2.0, c -0.1" in picture.alt


def test_reach_hatches_what_is_exactly_zero():
    source, target = torch.ones(3, 2), torch.ones(3, 3).tril()
    picture = plots.whole_reach(source, target, ["s", "t"], ["x", "y", "z"])
    assert "3 of 9 entries are exactly zero" in picture.alt
    assert "of 6 entries" not in picture.alt


def test_weights_looked_up_are_those_that_the_cross_attention_used(model):
    source, target = torch.tensor([[4, 5, 6, 0]]), torch.tensor([[1, 7, 8]])
    weights = plots.looked_up(model, source, target)
    assert weights.shape == (2, 3, 4)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3))
    assert (weights[..., -1] == 0).all()
    seen = {}
    attention = model.decoder.layers[-1].cross_attention
    attention.register_forward_hook(lambda module, args, out: seen.update(args=args, out=out))
    model(source, target)
    value = attention.value(seen["args"][1])[0].unflatten(-1, (2, 4)).transpose(0, 1)  # (H, S, K)
    found = (weights @ value).transpose(0, 1).flatten(1)  # (T, D)
    torch.testing.assert_close(attention.output(found), seen["out"][0])
    assert len(plots.head_row(weights, list("abc."), list("xyz")).axes) == 3  # two heads and a scale


def test_an_ablation_tells_both_shares():
    picture = plots.ablation({"whole": (0.99, 0.97), "without": (1.0, 0.0)})
    assert "whole: 99% and 97%; without: 100% and 0%" in picture.alt


def test_causal_reach_of_a_whole_model_is_what_is_hatched(model):
    source, target = torch.tensor([4, 5, 6]), torch.tensor([1, 7, 8])
    logits = model(source[None], target[None])[0, :, 19]
    rows = [torch.autograd.grad(y, model.embedding.weight, retain_graph=True)[0] for y in logits]
    reach = torch.stack(rows).norm(dim=-1)
    assert torch.equal(reach[:, target] > 0, causal_mask(3))
    picture = plots.whole_reach(reach[:, source], reach[:, target], list("abc"), list("xyz"))
    assert "3 of 9 entries are exactly zero" in picture.alt

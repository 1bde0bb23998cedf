"""The figures of unit 19 say in words what they show, and what they show is what was computed."""

import torch

from scratch import family
from scratch import vit_plots as plots
from scratch.transformer import Transformer
from scratch.vit import ViT


def test_an_image_is_drawn_beside_the_row_of_its_patches():
    picture = plots.cut_up(torch.rand(4, 6), 2, "noise")
    assert "4 by 6 pixels" in picture.alt
    assert "2 by 3 patches, numbered 1 to 6" in picture.alt
    assert [text.get_text() for text in picture.axes[1].texts] == ["class", *"0123456"]


def test_the_drawing_of_a_vit_is_pre_norm_and_reads_one_row():
    texts = [text.get_text() for text in plots.architecture().axes[0].texts]
    assert texts.index("norm") < texts.index("self-attention")
    assert any("row 0 alone" in text for text in texts)


def test_position_maps_tell_neighbours_from_places_far_apart():
    place = torch.cartesian_prod(torch.arange(4.0), torch.arange(3.0))
    near = (torch.cdist(place, place, p=1) <= 1).float()
    assert (
        "1.00 on average between neighbours, 0.00 between places far"
        in plots.position_maps({"a": near}, (4, 3)).alt
    )


def test_lines_say_their_values():
    assert (
        "ViT: 0.50 at 50, 0.90 at 1437"
        in plots.lines({"ViT": [0.5, 0.9]}, [50, 1437], "images", "accuracy").alt
    )


def test_overlays_name_the_brightest_patch():
    share = torch.zeros(2, 2, 3)
    share[0, 1, 2] = share[1, 0, 0] = 1
    picture = plots.overlays(torch.rand(2, 4, 6), {"rollout": share}, ["3", "5 as 6"], [False, True])
    assert "3: row 2 column 3; 5 as 6: row 1 column 1" in picture.alt
    assert any(text.get_text() == "5 as 6 *" for text in picture.axes[0].texts)


def test_all_four_kinds_are_drawn_with_the_blocks_of_the_course():
    texts = [text.get_text() for text in family.drawing().axes[0].texts]
    assert texts.count("self-attention") == 3
    assert texts.count("causal self-attention") == 2
    assert texts.count("cross-attention") == 1
    assert texts.count("feed-forward") == 5


def test_who_sees_whom_is_found_out_by_changing_inputs():
    torch.manual_seed(0)
    one, other = torch.arange(1, 6)[None], torch.arange(11, 16)[None]
    for causal, mask in ((False, "none: all see all"), (True, "causal")):
        model = family.TextEncoder(20, 5, 8, 2, 12, 2, causal=causal).eval()
        assert family.named_mask(family.sees(model, one, other)) == mask
        assert family.norm_placement(model) == ("before (pre)" if causal else "behind (post)")
    model = Transformer(20, 8, 2, 12, 1).eval()
    assert family.named_mask(family.sees(lambda ids: model(other, ids), one, other)) == "causal"
    assert family.sees(lambda ids: model(ids, one), one, other).all()
    assert family.named_mask(torch.eye(3).bool()) == "another"
    assert family.norm_placement(torch.nn.ModuleList([model, ViT((2, 2), 1, 1, 2, 4, 2, 4, 1)])) == "mixed"


def test_a_table_has_its_columns_below_one_another():
    lines = family.table({"is": ["a", "bb"], "has": ["ccc", "d"]}, ["one", "two"]).splitlines()
    assert lines == ["     one  two", "is   a    bb", "has  ccc  d"]

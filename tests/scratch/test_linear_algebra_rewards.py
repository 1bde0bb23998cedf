"""The reward of unit 01 shows a photograph, or says what it waits for; its figures describe themselves."""

import types

import numpy as np
import pytest
from PIL import Image

from scratch import linear_algebra, linear_algebra_plots, linear_algebra_rewards
from scratch.linear_algebra_rewards import compress_photograph, photograph
from scratch.plots import Picture

DONE = vars(linear_algebra)


def stub(name):
    """An answer that nobody has written yet."""
    namespace = {}
    exec(f"def {name}(*args):\n    raise NotImplementedError({name!r})", namespace)
    return namespace[name]


class TestReward:
    def test_right_answers_show_the_photograph_at_every_rank(self):
        picture = compress_photograph(DONE, ranks=(1, 3))
        assert isinstance(picture, Picture)
        assert len(picture.axes) == 3
        assert "rank 1 with 1%" in picture.alt

    @pytest.mark.parametrize("name", ["batched_matmul", "low_rank"])
    def test_it_says_which_exercise_it_waits_for(self, name, capsys):
        namespace = {**DONE, name: stub(name)}
        namespace["low_rank"] = stub(name) if name == "low_rank" else lambda m, r: namespace[name](m, m)
        assert compress_photograph(namespace) is None
        assert compress_photograph({key: value for key, value in DONE.items() if key != name}) is None
        assert capsys.readouterr().out == f"This picture waits for `{name}`, which is not written yet.\n" * 2

    @pytest.mark.parametrize(
        "answer",
        [
            lambda m, r: None,
            lambda m, r: m,
            lambda m, r: m * np.nan,
            lambda m, r: m[0],
            lambda m, r: m.tolist(),
            lambda m, r: m + 0j,
            lambda m, r: m > 0.5,
            lambda m, r: 1 / 0,
            lambda m, r: linear_algebra.low_rank(m, r + 1),
            lambda m, r: np.clip(linear_algebra.low_rank(m, r), 0.3, 0.6),
        ],
    )
    def test_a_wrong_answer_shows_nothing(self, answer, capsys):
        assert compress_photograph({**DONE, "low_rank": answer}) is None
        assert capsys.readouterr().out.startswith("This picture waits until the checks above pass.")

    def test_without_a_photograph_it_says_so(self, monkeypatch, capsys):
        monkeypatch.setattr(linear_algebra_rewards, "photograph", lambda: None)
        assert compress_photograph(DONE) is None
        assert "needs a photograph" in capsys.readouterr().out


class TestPhotograph:
    def test_that_of_scikit_learn_comes_first(self, monkeypatch, tmp_path):
        folder = tmp_path / "datasets" / "images"
        folder.mkdir(parents=True)
        Image.new("RGB", (8, 6), (255, 0, 51)).save(folder / "china.jpg", "png")

        def find_spec(name):
            return types.SimpleNamespace(submodule_search_locations=[tmp_path]) if name == "sklearn" else None

        monkeypatch.setattr(linear_algebra_rewards.importlib.util, "find_spec", find_spec)
        image, shows = photograph()
        assert "palace" in shows
        np.testing.assert_allclose(image, np.broadcast_to([1.0, 0.0, 0.2], (3, 4, 3)))
        assert photograph(["matplotlib"]) is None

    def test_that_of_matplotlib_is_there(self):
        image, _ = photograph(["matplotlib"])
        assert image.shape == (300, 256, 3)
        assert 0 <= image.min() < 0.1 < 0.9 < image.max() <= 1


RNG = np.random.default_rng(0)
SQUARE = np.array([[1.6, 1.2], [-0.3, 1.4]])
FIGURES = {
    "arrows": ({"dog": (3, 0.5), "road": (0.3, 4)}, ("lives", "place")),
    "projection": (np.array([2.0, 3.0]), np.array([1.0, 0.0]), np.array([2.0, 0.0])),
    "plane_maps": ({"nothing": np.eye(2), "some": SQUARE},),
    "eigenvectors": (np.eye(2), np.ones(2), np.eye(2)),
    "singular_vectors": (SQUARE, *np.linalg.svd(SQUARE)),
    "broadcasting": ([1, 2], [3, 4, 5]),
    "cloud": (RNG.uniform(1, 4, (30, 2)), {"one": ((0, 0), (2, 1))}),
    "explained_variance": (np.array([0.5, 0.3, 0.15, 0.05]),),
    "matrix_row": ({"A": RNG.standard_normal((4, 6)), "B": np.ones((4, 6))},),
    "photographs": ({"one": RNG.random((4, 6, 3))}, "A photograph."),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_draws_and_says_what_it_shows(name):
    picture = getattr(linear_algebra_plots, name)(*FIGURES[name])
    assert picture.alt.endswith(".")
    assert 'alt="' in picture.to_html()

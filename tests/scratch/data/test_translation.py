"""The real pairs: how many, how clean, and split without leaks."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from scratch.data import cache
from scratch.data.manifest import manifest
from scratch.data.pairs import pair, plain
from scratch.data.translation import Pair, Translation, build, load_pairs, load_translation

needs_data = pytest.mark.skipif(
    not cache.is_whole(manifest().sets["translation"]), reason="'translation' is not built: `make data`"
)


def test_pairs_are_built_from_several_packages(tmp_path: Path) -> None:
    verbs = {"open": "abrir", "close": "fechar", "lock": "trancar", "hide": "ocultar"}
    nouns = {"door": "porta", "window": "janela", "box": "caixa", "book": "livro"}
    both = {f"{verb} {noun}": f"{v} {n}" for verb, v in verbs.items() for noun, n in nouns.items()}
    both["rare words"] = "palavras raras"
    english, portuguese = (json.dumps(table).encode() for table in ({text: text for text in both}, both))
    sources = {name: {"a/en.json": english, "a/pt-BR.json": portuguese} for name in ("first", "second")}
    assert build(sources, tmp_path) == {"pairs": 16, "Portuguese words": 8, "English words": 8}
    lines = (tmp_path / "pairs.tsv").read_text("utf-8").splitlines()
    assert lines[0] == "first\tabrir porta\topen door"
    assert {line.split("\t")[0] for line in lines} == {"first"}


@needs_data
def test_there_are_as_many_pairs_as_expected() -> None:
    pairs = load_pairs()
    assert len(pairs) == 4321
    count = Counter(each.package for each in pairs)
    assert list(count) == [
        package.name for package in manifest().sets["translation"].packages if package.name in count
    ]
    assert min(count.values()) > 50
    assert len(count) == 6


@needs_data
def test_no_markup_is_left_and_every_pair_stays_one() -> None:
    for each in load_pairs():
        assert not re.search(r"[^\w '-]|\d|_", each.portuguese + each.english), each
        assert pair(each.portuguese, each.english) == each[:2]


@needs_data
def test_every_word_is_common() -> None:
    for side in (0, 1):
        count = Counter(word for each in load_pairs() for word in set(each[side].split()))
        assert 700 < len(count) < 1000
        assert min(count.values()) >= 4


@needs_data
def test_the_sides_are_not_swapped() -> None:
    portuguese, english = (
        Counter(word for each in load_pairs() for word in each[side].split()) for side in (0, 1)
    )
    for ours, theirs in (("de", "of"), ("não", "not"), ("para", "to"), ("configuração", "configuration")):
        assert portuguese[ours] > 10
        assert english[theirs] > 10
        assert not english[ours]
        assert not portuguese[theirs]
    accents = [sum(len(re.findall("[à-ÿ]", each[side])) for each in load_pairs()) for side in (0, 1)]
    assert accents[0] > 1000
    assert accents[1] == 0


@needs_data
def test_known_pairs_are_there() -> None:
    known = {each[:2] for each in load_pairs()}
    assert {("erro desconhecido", "unknown error"), ("adicionar dispositivo", "add device")} <= known
    assert {("nome do arquivo", "file name"), ("senha do wi-fi", "wi-fi password")} <= known


@needs_data
@pytest.mark.parametrize("seed", range(5))
def test_nothing_of_one_part_is_seen_in_another(seed: int) -> None:
    data = load_translation(held_out=500, validation=300, seed=seed)
    assert (len(data.held_out), len(data.validation)) == (500, 300)
    parts = (data.train, data.validation, data.held_out)
    assert sorted(each for part in parts for each in part) == sorted(load_pairs())
    for side in (0, 1):
        seen = [{plain(each[side]) for each in part} for part in parts]
        assert not seen[0] & seen[1]
        assert not seen[0] & seen[2]
        assert not seen[1] & seen[2]


@needs_data
def test_every_held_out_word_stands_in_two_pairs_to_train_on() -> None:
    data = load_translation(held_out=500, validation=300, seed=1)
    for side in (0, 1):
        learned = Counter(word for each in data.train for word in set(each[side].split()))
        assert all(
            learned[word] >= 2 for each in data.held_out + data.validation for word in each[side].split()
        )


@needs_data
def test_a_seed_says_it_all_and_others_say_otherwise() -> None:
    first, again, other = (load_translation(seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert isinstance(first, Translation)
    assert first.validation == []
    assert len({*first.held_out} & {*other.held_out}) < 150
    assert "homeassistant 2025.4.4 (Apache-2.0)" in first.source


@needs_data
def test_held_out_pairs_are_drawn_from_all_lengths_and_packages() -> None:
    held_out = load_translation().held_out
    lengths = Counter(len(each.english.split()) for each in held_out)
    assert set(lengths) == set(range(2, 9))
    assert lengths[2] < 0.6 * len(held_out)
    assert len({each.package for each in held_out}) == 6


@needs_data
def test_more_than_there_is_cannot_be_set_aside() -> None:
    with pytest.raises(ValueError, match="can be set aside"):
        load_translation(held_out=4321)


def test_without_data_it_says_make_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRATCH_DATA", str(tmp_path))
    for load in (load_pairs, load_translation):
        with pytest.raises(cache.NotBuilt, match="`make data`"):
            load()


def test_a_lost_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRATCH_DATA", str(tmp_path))
    place = cache.folder(manifest().sets["translation"])
    place.mkdir()
    (place / "provenance.json").write_text("{}")
    with pytest.raises(cache.DataError, match=r"pairs\.tsv cannot be read .*`make data`"):
        load_pairs()
    (place / "pairs.tsv").write_text("p\tabrir\topen it\n", "utf-8")
    assert load_pairs() == [Pair("abrir", "open it", "p")]

"""Which texts make a pair, whatever a catalogue holds."""

from __future__ import annotations

import io
import json
import re
from collections import Counter

import pytest
from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import write_po
from hypothesis import given
from hypothesis import strategies as st

from scratch.data.catalogues import texts
from scratch.data.pairs import of_common_words, one_answer, pair, plain, words

ANY = st.text(max_size=60)
SENTENCE = st.lists(
    st.sampled_from("abrir fechar não conexão you're wi-fi the janela É Ligar".split()), max_size=9
).map(" ".join)


@pytest.mark.parametrize(
    ("portuguese", "english", "expected"),
    [
        ("Abrir o arquivo…", "Open the file…", ("abrir o arquivo", "open the file")),
        ("Não, não excluir!", "No, don’t delete.", ("não não excluir", "no don't delete")),
        ("Conecte-se ao Wi‑Fi", "Connect to “Wi-Fi”", ("conecte-se ao wi-fi", "connect to wi-fi")),
        ("Configurac\u0327a\u0303o nova", "New  setup", ("configuração nova", "new setup")),
        ("Hora\u00a0do\u00a0alar\u00adme", "Alarm time", ("hora do alarme", "alarm time")),
        ("Desligar", "Turn off", ("desligar", "turn off")),
        ("NÃO ENCONTRADO", "NOT FOUND", ("não encontrado", "not found")),
    ],
)
def test_sentences_are_written_plainly(portuguese: str, english: str, expected: tuple[str, str]) -> None:
    assert pair(portuguese, english) == expected


@pytest.mark.parametrize(
    ("portuguese", "english", "why"),
    [
        ("Olá {name}", "Hello {name} there", "placeholder"),
        ("%s itens na lista", "%s items in list", "placeholder"),
        ("Salvar <b>tudo</b>", "Save <b>all</b>", "markup"),
        ("Tipo(s) de mídia", "Media type(s) here", "brackets"),
        ("Nome [opcional]", "Name [optional] here", "brackets"),
        ("Liga/desliga a luz", "Toggle on/off", "two words in one place"),
        ("Data & hora", "Date & time", "a sign in place of a word"),
        ("De 1 a 9 segundos", "From 1 to 9 seconds", "numbers"),
        ("Edite configuration.yaml", "Edit configuration.yaml now", "a file's name"),
        ("Uma linha\nOutra linha", "One line\nAnother line", "two lines"),
        ("Janela", "Window", "one English word"),
        ("Um " * 20, "One two three", "far too long"),
        ("Uma frase longa", "One two three four five six seven eight nine", "nine English words"),
        ("", "Open window", "empty"),
        ("...", "Open window", "no word"),
        ("Home Assistant", "Home Assistant", "not translated"),
        ("On-line sensor", "Online sensor", "not translated"),
        ("Failed to open the window", "Failed to open window", "not translated"),
        ("Abrir a janela", "Abrir uma janela", "translated on the wrong side"),
        ("ConfiguraÃ§Ã£o da rede", "Network settings", "read in the wrong code"),
        ("Configura��o da rede", "Network settings", "letters lost"),
        ("Открыть окно", "Open window", "another language"),
        ("Veja mais detalhes no", "See more details on the", "goes on elsewhere"),
        ("em", "at time", "a piece of a sentence"),
    ],
)
def test_what_is_no_pair_is_left_out(portuguese: str, english: str, why: str) -> None:
    assert pair(portuguese, english) is None, why


@given(ANY, ANY)
def test_whatever_comes_in_words_and_single_spaces_come_out(portuguese: str, english: str) -> None:
    found = pair(portuguese, english)
    if found is not None:
        for side in found:
            assert re.fullmatch(r"[^\W\d_]+(['-][^\W\d_]+)*( [^\W\d_]+(['-][^\W\d_]+)*)*", side)
            assert side == side.lower()
        assert 2 <= len(found[1].split()) <= 8


@given(ANY)
def test_words_of_words_are_the_same_words(text: str) -> None:
    once = words(text)
    if once is not None:
        assert words(" ".join(once)) == once


@given(
    SENTENCE,
    SENTENCE,
    st.sampled_from(["{x}", "<br>", "(s)", "[1]", "%d", "50", "a/b", "x_y", "`c`"]),
    st.booleans(),
)
def test_one_placeholder_anywhere_spoils_a_pair(ours: str, theirs: str, sign: str, left: bool) -> None:
    ours, theirs = (f"{ours} {sign}", theirs) if left else (ours, f"{sign} {theirs}")
    assert pair(ours, theirs) is None


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"))))
def test_every_portuguese_sentence_has_one_answer_the_most_common(pairs: list[tuple[str, str]]) -> None:
    kept = one_answer(pairs)
    assert [p for p, _ in kept] == list(dict.fromkeys(p for p, _ in pairs))
    count = Counter(pairs)
    assert all(count[both] == max(n for (p, _), n in count.items() if p == both[0]) for both in kept)


@given(st.lists(st.tuples(SENTENCE, SENTENCE), max_size=40), st.integers(1, 4))
def test_every_word_that_is_left_is_common_and_nothing_more_could_be(
    pairs: list[tuple[str, str]], often: int
) -> None:
    kept = of_common_words(pairs, often)
    for side in (0, 1):
        count = Counter(word for both in kept for word in set(both[side].split()))
        assert all(n >= often for n in count.values())
    rest = list(pairs)
    for both in kept:
        rest.remove(both)  # in their order, each as often
    assert kept == [both for both in pairs if both in set(kept)]
    assert of_common_words(kept, often) == kept


def test_plain_writings_are_one() -> None:
    assert plain("e-mail inválido") == plain("email invalido")


def catalogue(*entries: tuple[object, object], fuzzy: int = -1) -> Catalog:
    made = Catalog(locale="pt_BR")
    for i, (english, portuguese) in enumerate(entries):
        made.add(english, portuguese, flags=["fuzzy"] if i == fuzzy else [])
    return made


def written(made: Catalog, how) -> bytes:
    file = io.BytesIO()
    how(file, made)
    return file.getvalue()


def test_catalogues_give_portuguese_first_and_nothing_that_was_guessed() -> None:
    made = catalogue(
        ("Open", "Abrir"),
        ("Close", "Fechar tudo"),
        ("Empty", ""),
        (("one day", "many days"), ("um dia", "muitos dias")),
        fuzzy=1,
    )
    expected = [("Abrir", "Open"), ("um dia", "one day"), ("muitos dias", "many days")]
    assert list(texts({"a/b.po": written(made, write_po)})) == expected
    assert sorted(texts({"a/b.mo": written(made, write_mo)})) == sorted(expected)


def test_a_third_plural_form_says_nothing_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    po = b'msgid ""\nmsgstr "Plural-Forms: nplurals=3; plural=n;\\n"\n\nmsgid "a"\nmsgid_plural "b"\n'
    po += b'msgstr[0] "x"\nmsgstr[1] "y"\nmsgstr[2] "z"\n'
    assert list(texts({"a.po": po})) == [("x", "a"), ("y", "b")]
    assert capsys.readouterr().out == ""


def test_tables_are_joined_by_their_keys_whatever_the_order() -> None:
    english = {"a": {"b": "Open", "c": "Close"}, "d": "Only English", "n": 3}
    portuguese = {"e": "Só português", "a": {"c": "Fechar", "b": "Abrir"}, "n": 3}
    expected = [("Abrir", "Open"), ("Fechar", "Close")]
    hashed = "0123456789abcdef" * 2
    for names in (("x/en.json", "x/pt-BR.json"), (f"x/y/en-{hashed}.json", f"x/y/pt-BR-{hashed}.json")):
        files = dict(zip(names, (json.dumps(table).encode() for table in (english, portuguese)), strict=True))
        assert list(texts(files)) == expected
    british = {f"x/en-GB-{hashed}.json": b"{}", "x/yen.json": b"{}"}
    assert list(texts({**files, **british})) == expected

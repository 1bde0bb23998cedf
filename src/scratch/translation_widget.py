"""Something to play with: type a sentence, see its translation and where the model looked (unit 13).

In JupyterLab, Notebook and VS Code it is a widget. Everywhere else, where a notebook is read or run without anybody to
type, it is the figure of one sentence.
"""

import html
from collections.abc import Callable
from typing import Any

from scratch.live import display_with_html, is_live
from scratch.plots import Picture
from scratch.translation_plots import look_up
from scratch.translator import Translator

Choose = Callable[[str], Translator | None]


def playground(choose: Choose, text: str, live: bool | None = None) -> Any:
    """Show the translation of a text, in a box to type others into where there is somebody who can.

    Args:
        choose: picks a translator for a text, as ``scratch.translate.chooser`` returns it.
        text: what stands in the box at first, and what the figure shows.
        live: whether to make the widget; None finds it out.

    Returns:
        The figure where there is no widget, otherwise nothing: the widget is displayed, and with it, for whoever reads
        the saved notebook elsewhere, the figure.
    """
    if not (is_live() if live is None else live):
        return figure(choose, text)
    import ipywidgets as widgets

    box = widgets.Text(value=text, description="Portuguese:", continuous_update=False)
    box.layout.width = "38em"
    below = widgets.HTML()

    def update(_: Any = None) -> None:
        below.value = answer(choose, box.value)

    box.observe(update, names="value")
    update()
    display_with_html(widgets.VBox([box, below]), below.value)
    return None


def figure(choose: Choose, text: str) -> Picture:
    """Draw a text, its translation, and the mean of all heads between the two."""
    translator = choose(text)
    if translator is None:
        raise ValueError(f"there is no trained translator for {text!r}")
    read, written, weights = translator.attend(text)
    return look_up(read, written, weights, title=f"{text} → {translator.translate([text])[0]}")


def answer(choose: Choose, text: str) -> str:
    """Return what to show below the box, as HTML: translation, unknown words and figure, or what is wrong."""
    if not text.strip():
        return "<p>Type a sentence, a date or a number in words, and press Enter.</p>"
    translator = choose(text)
    if translator is None:
        return "<p>This model is not trained yet: run the cells above.</p>"
    lines = [f"<p><b>{html.escape(translator.translate([text])[0])}</b></p>"]
    if unknown := translator.unknown(text):
        words = ", ".join(word.strip() for word in unknown)
        lines.append(f"<p>Never seen in training, so the model cannot know: {html.escape(words)}</p>")
    return "".join([*lines, figure(choose, text).to_html()])

"""Temperature and p to move with sliders, where there are any; a figure for everybody else (unit 14).

In JupyterLab, Notebook and VS Code there are sliders. Everywhere else, where a notebook is read or run without anybody
to move one, there is the figure of one setting, and its text.
"""

import html
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scratch.generation import generate, sample_top_p
from scratch.generation_plots import choices
from scratch.gpt import GPT
from scratch.live import display_with_html, is_live
from scratch.play_models import Characters
from scratch.plots import Picture

SAMPLE = 90  # characters
START = {"temperature": 0.8, "p": 0.9, "seed": 0}


def cut(logits: Tensor, p: float, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """The probabilities (V,) at a temperature, and what top-p sampling draws from: zero for what is cut off."""
    before = (logits / temperature).softmax(dim=-1)
    line, ids = before.sort(descending=True, stable=True)
    line = line.masked_fill(line.cumsum(0) - line >= p, 0.0)
    after = torch.zeros_like(before).scatter(0, ids, line / line.sum())
    return before.numpy(), after.numpy()


def views(model: GPT, characters: Characters, prompt: str) -> Callable[..., tuple[Picture, str]]:
    """Return a function of temperature, p and seed: a figure of who may be drawn next, and a text that was written."""
    ids = characters.encode(prompt)[None]
    with torch.no_grad():
        logits = model(ids)[0, -1]

    def view(temperature: float, p: float, seed: int = 0) -> tuple[Picture, str]:
        random = torch.Generator().manual_seed(seed)

        def choose(scores: Tensor) -> Tensor:
            return sample_top_p(scores, torch.rand(len(scores), generator=random), p, temperature)

        limit = min(SAMPLE, model.positions.num_embeddings - ids.shape[1])
        written = characters.decode(generate(model, ids, choose, limit=limit)[0])
        title = f"temperature {temperature:g}, p {p:g}"
        return choices({title: cut(logits, p, temperature)}, characters.characters), written

    return view


def play(model: GPT, characters: Characters, prompt: str, live: bool | None = None) -> None:
    """Show who may be drawn after a prompt and what comes of it, with sliders where somebody could move one.

    Whoever reads the saved notebook elsewhere, where no widgets run, sees figure and text instead of the sliders.

    Args:
        model: in evaluation mode.
        characters: the model's vocabulary.
        prompt: what is written on from.
        live: whether to make sliders; None finds it out.
    """
    view = views(model, characters, prompt)
    if not (is_live() if live is None else live):
        from IPython.display import display

        picture, written = view(**START)
        display(picture)
        print(written)
        return
    import ipywidgets

    ranges = {"temperature": (0.1, 2.0, 0.1), "p": (0.05, 1.0, 0.05), "seed": (0, 20, 1)}
    sliders = {}
    for name, (low, high, step) in ranges.items():
        kind = ipywidgets.IntSlider if name == "seed" else ipywidgets.FloatSlider
        sliders[name] = kind(
            value=START[name], min=low, max=high, step=step, description=name, continuous_update=False
        )
        sliders[name].style.description_width = "initial"  # else "temperature" is cut off
    below = ipywidgets.HTML()

    def update(_: Any = None) -> None:
        picture, written = view(**{name: slider.value for name, slider in sliders.items()})
        below.value = f"{picture.to_html()}<pre>{html.escape(written)}</pre>"

    for slider in sliders.values():
        slider.observe(update, names="value")
    update()
    display_with_html(ipywidgets.VBox([ipywidgets.HBox(list(sliders.values())), below]), below.value)

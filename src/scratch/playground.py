"""Temperature and p to move with sliders, where there are any; a figure for everybody else (unit 14)."""

import os
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from scratch.generation import generate, sample_top_p
from scratch.generation_plots import choices
from scratch.gpt import GPT
from scratch.play_models import Characters
from scratch.plots import Picture

SAMPLE = 90  # characters


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


def has_sliders() -> bool:
    """Whether somebody sits before a notebook who could move one: Jupyter's server names the session it serves."""
    return "JPY_SESSION_NAME" in os.environ


def play(model: GPT, characters: Characters, prompt: str) -> None:
    """Show sliders for temperature, p and seed, with what they do; without a session one figure and its text."""
    from IPython.display import display

    view = views(model, characters, prompt)

    def show(temperature: float = 0.8, p: float = 0.9, seed: int = 0) -> None:
        picture, written = view(temperature, p, seed)
        display(picture)
        print(written)

    if not has_sliders():
        return show()
    import ipywidgets

    sliders = {
        "temperature": ipywidgets.FloatSlider(value=0.8, min=0.1, max=2.0, step=0.1, continuous_update=False),
        "p": ipywidgets.FloatSlider(value=0.9, min=0.05, max=1.0, step=0.05, continuous_update=False),
        "seed": ipywidgets.IntSlider(value=0, min=0, max=20, continuous_update=False),
    }
    for name, slider in sliders.items():
        slider.description = name
    display(ipywidgets.HBox(list(sliders.values())), ipywidgets.interactive_output(show, sliders))
    return None

"""What is built around a cell: a layer that holds its weights, and a model of names, character by character (unit 06).

Cells and the run over a batch are passed in, so that the same model works with ``scratch.recurrent`` and with what a
learner has written.

Symbols: B batch, T steps, D width of an input, H width of the hidden state, V number of characters.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

GATES = {"rnn_cell": 1, "lstm_cell": 4, "gru_cell": 3}  # blocks of H rows in a cell's weights
END = "\n"  # closes every name; its id is 0, and a name begins after it


class RecurrentLayer(nn.Module):
    """Run a cell over sequences, with weights in PyTorch's layout and drawn as PyTorch draws them."""

    def __init__(self, cell: Callable, run: Callable, gates: int, width: int, hidden: int):
        """Draw weights for a cell.

        Args:
            cell: called as ``cell(x, state, w_ih, w_hh, b_ih, b_hh)``; returns the new state.
            run: called as ``run(step, x, lengths, state)``; returns outputs (B, T, H) and state.
            gates: 1, 3 or 4, as ``GATES`` has it. A cell with four keeps a state of two parts.
            width: D.
            hidden: H.
        """
        super().__init__()
        self.cell, self.run, self.gates, self.hidden = cell, run, gates, hidden
        bound = hidden**-0.5

        def draw(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))

        self.w_ih, self.w_hh = draw(gates * hidden, width), draw(gates * hidden, hidden)
        self.b_ih, self.b_hh = draw(gates * hidden), draw(gates * hidden)

    def start(self, size: int) -> Tensor | tuple[Tensor, Tensor]:
        """Return a state of zeros for so many sequences."""
        h = torch.zeros(size, self.hidden)
        return (h, torch.zeros_like(h)) if self.gates == 4 else h

    def forward(self, x: Float[Tensor, "B T D"], state, lengths: Int[Tensor, " B"] | None = None):
        """Return outputs (B, T, H) and the state at each sequence's end; without lengths all steps are real."""
        lengths = torch.full((len(x),), x.shape[1]) if lengths is None else lengths
        weights = self.w_ih, self.w_hh, self.b_ih, self.b_hh
        return self.run(lambda x, state: self.cell(x, state, *weights), x, lengths, state)


class CharacterModel(nn.Module):
    """Predict the next character of a name from those before it: embedding, recurrent layer, scores."""

    def __init__(self, layer: RecurrentLayer, names: Sequence[str], width: int, dropout: float = 0.0):
        """Take the characters of the names as vocabulary.

        Args:
            layer: maps (B, T, width) to (B, T, H).
            names: every character that the model is to know.
            width: D, of an embedding.
            dropout: the share of the layer's outputs that training hides.
        """
        super().__init__()
        self.characters = [END, *sorted(set("".join(names)) - {END})]
        self.ids = {character: i for i, character in enumerate(self.characters)}
        self.embedding = nn.Embedding(len(self.characters), width)
        self.layer = layer
        self.dropout = nn.Dropout(dropout)
        self.scores = nn.Linear(layer.hidden, len(self.characters))

    def forward(self, ids: Int[Tensor, "B T"], state, lengths: Int[Tensor, " B"] | None = None):
        """Return scores (B, T, V) of what comes after each character, and the state."""
        outputs, state = self.layer(self.embedding(ids), state, lengths)
        return self.scores(self.dropout(outputs)), state

    def encode(self, text: str) -> Int[Tensor, " T"]:
        """Return the ids of a text's characters."""
        return torch.tensor([self.ids[character] for character in text])

    def stream(self, names: Sequence[str], lanes: int) -> tuple[Int[Tensor, "B T"], Int[Tensor, "B T"]]:
        """Write names one after the other into one text, cut it into lanes, and return inputs and targets."""
        ids = self.encode(END + END.join(names) + END)
        steps = (len(ids) - 1) // lanes
        return ids[: lanes * steps].view(lanes, steps), ids[1 : lanes * steps + 1].view(lanes, steps)

    @torch.no_grad()
    def surprise(self, names: Sequence[str]) -> float:
        """Return −log p of a character of these names, on average, their ends included; in evaluation mode."""
        lengths = torch.tensor([len(name) + 1 for name in names])
        size = int(lengths.max())
        ids = torch.zeros(len(names), size + 1, dtype=torch.int64)  # END in front, and as padding
        for row, name in zip(ids, names, strict=True):
            row[1 : len(name) + 1] = self.encode(name)
        real = torch.arange(size) < lengths[:, None]  # (B, T)
        mode = self.training
        scores, _ = self.eval()(ids[:, :-1], self.layer.start(len(names)), lengths)
        self.train(mode)
        return nn.functional.cross_entropy(scores[real], ids[:, 1:][real]).item()

    @torch.no_grad()
    def write(self, count: int, temperature: float, seed: int, longest: int = 20):
        """Write names, character by character, each drawn from softmax(scores / temperature).

        Returns:
            For each name a list of its characters, each with the probability that the model gave it (at temperature
            1). The last one is ``END``; a name with more than ``longest`` characters is cut off without it.
        """
        generator = torch.Generator().manual_seed(seed)
        mode = self.training
        self.eval()
        ids, state = torch.zeros(count, 1, dtype=torch.int64), self.layer.start(count)
        names: list[list[tuple[str, float]]] = [[] for _ in range(count)]
        for _ in range(longest + 1):
            scores, state = self(ids, state)
            ids = torch.multinomial((scores[:, 0] / temperature).softmax(-1), 1, generator=generator)
            shares = scores[:, 0].softmax(-1).gather(1, ids)
            for name, i, share in zip(names, ids[:, 0].tolist(), shares[:, 0].tolist(), strict=True):
                if not name or name[-1][0] != END:
                    name.append((self.characters[i], share))
        self.train(mode)
        return names

"""Checks of unit 06, first half: the three cells.

Every check draws fresh weights and inputs. Answers are judged by PyTorch's own cells on the same weights, by finite
differences, or by what gates must do when they are wide open or shut.
"""

from itertools import permutations

import pytest
import torch

from proctor import expect

DOUBLE = torch.float64


def draw(rng, gates, B, D, H, dtype=torch.float32, scale=0.7):
    """An input, as many states as a cell may need, and weights for so many gates: x, h, c, and the four weights."""
    shapes = [(B, D), (B, H), (B, H), (gates * H, D), (gates * H, H), (gates * H,), (gates * H,)]
    x, h, c, *weights = (rng.tensor(*shape, scale=scale).to(dtype) for shape in shapes)
    return x, h, c, weights


def sizes(rng):
    """B, D and H, all different, with an H of at least 2."""
    return rng.distinct(3, high=7)


def doubled(*values):
    return [value.double() for value in values]


def sums(x, h, weights, biases=(True, True)):
    """W_ih x + b_ih + W_hh h + b_hh, with only some of the biases if wanted."""
    w_ih, w_hh, b_ih, b_hh = weights
    return x @ w_ih.T + biases[0] * b_ih + h @ w_hh.T + biases[1] * b_hh


NO_BIAS = {
    "without the biases": (False, False),
    "without b_ih: each product has a bias of its own": (False, True),
    "without b_hh: each product has a bias of its own": (True, False),
}
HUGE = 1e3  # where e to its power is too large for any float


@pytest.mark.exercise("rnn_cell")
class TestRnnCell:
    ASK = "The new state is tanh(W_ih x + b_ih + W_hh h + b_hh). Which of these parts differs in yours?"

    @pytest.mark.points(1)
    def test_one_state_for_each_row(self, student, rng):
        """returns one new state for each row of the batch"""
        B, D, H = sizes(rng)
        x, h, _, weights = draw(rng, 1, B, D, H)
        out = student.rnn_cell(x, h, *weights)
        ask = "Weights lie as (outputs, inputs). Which of them has to be transposed so that rows of x meet rows of W?"
        expect.array(out, shape=(B, H), dtype=torch.float32, what="the new state (B, H)", ask=ask)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_one_state_for_each_row")
    def test_agrees_with_pytorch(self, student, rng):
        """agrees with PyTorch's cell on the same weights"""
        B, D, H = sizes(rng)
        for rows in (B, 1):
            x, h, _, weights = draw(rng, 1, rows, D, H)
            out = student.rnn_cell(x, h, *weights)
            x, h, *weights = doubled(x, h, *weights)
            w_ih, w_hh, b_ih, b_hh = weights
            total = sums(x, h, weights)
            mistakes = {
                "the sum itself: no tanh was taken of it": total,
                "a sigmoid where the tanh belongs": total.sigmoid(),
                "a ReLU where the tanh belongs": total.relu(),
                "a softmax where the tanh belongs": total.softmax(-1),
                "a tanh of the old state too: h comes as it is": torch.tanh(
                    x @ w_ih.T + b_ih + h.tanh() @ w_hh.T + b_hh
                ),
                "b_ih twice, and b_hh not at all": torch.tanh(total + b_ih - b_hh),
                "b_hh twice, and b_ih not at all": torch.tanh(total + b_hh - b_ih),
                "weights that met the wrong columns: x belongs to W_ih, h to W_hh": torch.tanh(
                    torch.cat([h, x], 1) @ torch.cat([w_ih, w_hh], 1).T + b_ih + b_hh
                ),
                "a state that forgets h: only the input came in": torch.tanh(x @ w_ih.T + b_ih + b_hh),
                "a state that ignores x: only the old state came in": torch.tanh(h @ w_hh.T + b_ih + b_hh),
                "W_hh the wrong way round: h times W_hh, not times its transpose": torch.tanh(
                    x @ w_ih.T + b_ih + h @ w_hh + b_hh
                ),
                "a tanh of each half by itself: the two are added before it": torch.tanh(x @ w_ih.T + b_ih)
                + torch.tanh(h @ w_hh.T + b_hh),
                "the old state added to the new one": total.tanh() + h,
                "the old state as it was": h,
                **{f"the state {name}": sums(x, h, weights, use).tanh() for name, use in NO_BIAS.items()},
            }
            expected = torch.rnn_tanh_cell(x, h, *weights)
            expect.close(out, expected, what="the new state", ask=self.ASK, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_pytorch")
    def test_every_size(self, student, rng):
        """works for one row, one feature, one hidden unit, and for numbers of any size"""
        B, D, H = sizes(rng)
        for b, d, n in ((B, 1, H), (B, D, 1), (1, 1, 1), (D, D, D)):
            x, h, _, weights = draw(rng, 1, b, d, n)
            out = student.rnn_cell(x, h, *weights)
            expect.close(
                out, torch.rnn_tanh_cell(x, h, *weights), what="the new state", ask="Which step drops a size of 1?"
            )  # fmt: skip
        x, h, _, weights = draw(rng, 1, B, D, H)
        weights[2] = HUGE * weights[2].sign()
        ask = "tanh is 1 or -1 far out. Which step divides two numbers that are both too large?"
        out = student.rnn_cell(x, h, *weights)
        expect.close(out, torch.rnn_tanh_cell(x, h, *weights), what="the new state", ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_pytorch")
    def test_inputs_and_gradients(self, student, rng):
        """leaves what comes in alone, keeps float64, and sends the right gradients back"""
        B, D, H = sizes(rng)
        x, h, _, weights = draw(rng, 1, B, D, H, DOUBLE)
        given = dict(zip(("w_ih", "w_hh", "b_ih", "b_hh"), weights, strict=True))
        with expect.unchanged(x=x, h=h, **given):
            student.rnn_cell(x, h, *weights)
        expect.gradients(student.rnn_cell, x=x, h=h, **given, what="the new state")


def lstm(x, h, c, weights, order="ifgo", candidate=torch.tanh, biases=(True, True)):
    """One step with the gates read in some order: the parts i, f, g, o and the old memory."""
    blocks = dict(zip(order, sums(x, h, weights, biases).chunk(4, dim=-1), strict=True))
    return blocks["i"].sigmoid(), blocks["f"].sigmoid(), candidate(blocks["g"]), blocks["o"].sigmoid(), c


def memory(parts):
    i, f, g, _, c = parts
    return f * c + i * g


def hidden(parts):
    return parts[3] * memory(parts).tanh()


@pytest.mark.exercise("lstm_cell")
class TestLstmCell:
    def step(self, student, x, h, c, weights):
        """The learner's (h, c), two tensors of the right shape."""
        h, c = expect.parts(student.lstm_cell(x, (h, c), *weights), "h", "c")
        shape = (len(x), weights[1].shape[1])
        ask = "Each gate has H of the 4H columns. Along which dimension do you cut, and into how many?"
        expect.array(h, shape=shape, dtype=x.dtype, what="h, the hidden state,", ask=ask)
        expect.array(c, shape=shape, dtype=x.dtype, what="c, the memory,", ask=ask)
        return h, c

    @pytest.mark.points(1)
    def test_two_states(self, student, rng):
        """returns a hidden state and a memory"""
        B, D, H = sizes(rng)
        self.step(student, *draw(rng, 4, B, D, H))

    @pytest.mark.points(3)
    @pytest.mark.needs("test_two_states")
    def test_memory_agrees_with_pytorch(self, student, rng):
        """updates the memory as PyTorch's cell does, with the gates in the order i, f, g, o"""
        B, D, H = sizes(rng)
        x, h, c, weights = draw(rng, 4, B, D, H)
        _, new_c = self.step(student, x, h, c, weights)
        x, h, c, *weights = doubled(x, h, c, *weights)
        expected_h, expected = torch.lstm_cell(x, (h, c), *weights)
        i, f, g, _, _ = lstm(x, h, c, weights)
        mistakes = {
            "h in the place of c: the tuple is (h, c)": expected_h,
            "the memory of a cell that took c for h and h for c: the state comes as (h, c)": memory(
                lstm(x, c, h, weights)
            ),
            "a candidate g without tanh": memory(lstm(x, h, c, weights, candidate=lambda g: g)),
            "a candidate g with a sigmoid: it may be negative": memory(
                lstm(x, h, c, weights, candidate=torch.sigmoid)
            ),
            "a candidate g with a sigmoid, and then a tanh: the sigmoid is for i, f and o": memory(
                lstm(x, h, c, weights, candidate=lambda g: g.sigmoid().tanh())
            ),
            "gates i and f with a tanh: a gate is a sigmoid, between 0 and 1": f.logit().tanh() * c
            + i.logit().tanh() * g,
            "gates i and f without their sigmoid": f.logit() * c + i.logit() * g,
            "a softmax for the gates: each entry has a sigmoid of its own": f.logit().softmax(-1) * c
            + i.logit().softmax(-1) * g,
            "1 added to the sum of the forget gate: that belongs into the bias, at the start": (
                f.logit() + 1
            ).sigmoid()
            * c
            + i * g,
            "c in the place of h in the sums of the gates": memory(lstm(x, c, c, weights)),
            "a memory that forgets nothing: f is missing": c + i * g,
            "a memory that forgets everything: the old c is missing": i * g,
            "a memory that takes in nothing: i ⊙ g is missing": f * c,
            "a candidate that no input gate holds back: i is missing": f * c + g,
            "1 − f in the place of i: the input gate has weights of its own": f * c + (1 - f) * g,
            "1 − f in the place of f: an open forget gate keeps": (1 - f) * c + i * g,
            "1 − i in the place of f: the forget gate has weights of its own": (1 - i) * c + i * g,
            "the old memory as it was": c,
            "the memory after a tanh: only h is made from tanh(c)": expected.tanh(),
            "a product of f ⊙ c and i ⊙ g: they are added": f * c * i * g,
            "h in the place of the old memory: f ⊙ h + i ⊙ g": f * h + i * g,
            **{f"the memory {name}": memory(lstm(x, h, c, weights, biases=use)) for name, use in NO_BIAS.items()},
            **{
                f"gates read in the order {', '.join(order)}: the rows belong to i, f, g, o": memory(
                    lstm(x, h, c, weights, order)
                )
                for order in permutations("ifgo")
                if order != tuple("ifgo")
            },
        }  # fmt: skip
        ask = "c ← f ⊙ c + i ⊙ g. Which rows of the weights make f, which i, which g, and what is applied to each?"
        expect.close(new_c, expected, what="the memory c", ask=ask, mistakes=mistakes)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_memory_agrees_with_pytorch")
    def test_hidden_state_agrees_with_pytorch(self, student, rng):
        """shows of the memory what the output gate lets through"""
        B, D, H = sizes(rng)
        for rows in (B, 1):
            x, h, c, weights = draw(rng, 4, rows, D, H)
            new_h, _ = self.step(student, x, h, c, weights)
            x, h, c, *weights = doubled(x, h, c, *weights)
            expected, new_c = torch.lstm_cell(x, (h, c), *weights)
            _, _, g, o, _ = lstm(x, h, c, weights)
            mistakes = {
                "o ⊙ tanh of the old c: the memory is updated first": o * c.tanh(),
                "o ⊙ c without the tanh": o * new_c,
                "tanh(c) without the output gate": new_c.tanh(),
                "the output gate alone": o,
                "a sigmoid of c: o ⊙ σ(c)": o * new_c.sigmoid(),
                "an output gate with tanh: a gate is a sigmoid": o.logit().tanh() * new_c.tanh(),
                "1 − o in the place of o: an open gate shows": (1 - o) * new_c.tanh(),
                "tanh of o ⊙ c: the gate comes last": (o * new_c).tanh(),
                "an output gate without its sigmoid": o.logit() * new_c.tanh(),
                "the old hidden state": h,
                "o ⊙ g: the candidate, not the memory": o * g,
                "a hidden state to which the old one was added": expected + h,
            }
            ask = "h ← o ⊙ tanh(c), with the new c. Which of the three is not as it should be?"
            expect.close(new_h, expected, what="the hidden state h", ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_memory_agrees_with_pytorch")
    def test_gates_open_and_shut(self, student, rng):
        """keeps its memory exactly while the forget gate is open and the input gate shut"""
        B, D, H = sizes(rng)
        x, h, c, (w_ih, w_hh, b_ih, b_hh) = draw(rng, 4, B, D, H)
        ask = "What are σ(1000) and σ(-1000), and does your σ come out there without dividing by infinity?"
        for name, (i, f), wanted in (
            ("the memory of a cell that keeps all and takes in nothing", (-HUGE, HUGE), c),
            ("the memory of a cell that keeps nothing and takes in nothing", (-HUGE, -HUGE), 0 * c),
        ):
            bias = torch.tensor([i, f, 0.0, 0.0]).repeat_interleave(H)
            _, kept = self.step(student, x, h, c, (w_ih, w_hh, bias, b_hh))
            expect.close(kept, wanted, what=name, ask=ask)
        bias = torch.tensor([0.0, 0.0, 0.0, -HUGE]).repeat_interleave(H)
        shown, _ = self.step(student, x, h, c, (w_ih, w_hh, b_ih, bias))
        expect.close(shown, 0 * h, what="the hidden state behind a shut output gate", ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_hidden_state_agrees_with_pytorch")
    def test_every_size(self, student, rng):
        """works for one row, one feature and one hidden unit"""
        B, D, H = sizes(rng)
        for b, d, n in ((B, 1, H), (B, D, 1), (1, 1, 1), (4 * H, D, H)):
            x, h, c, weights = draw(rng, 4, b, d, n)
            out = torch.cat(self.step(student, x, h, c, weights), dim=-1)
            expected = torch.cat(torch.lstm_cell(x, (h, c), *weights), dim=-1)
            ask = "Which step drops a size of 1, or cuts along the batch?"
            expect.close(out, expected, what="h and c side by side", ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_two_states")
    def test_inputs_and_gradients(self, student, rng):
        """leaves what comes in alone, keeps float64, and sends the right gradients back"""
        B, D, H = sizes(rng)
        x, h, c, weights = draw(rng, 4, B, D, H, DOUBLE)
        given = dict(zip(("w_ih", "w_hh", "b_ih", "b_hh"), weights, strict=True))
        with expect.unchanged(x=x, h=h, c=c, **given):
            student.lstm_cell(x, (h, c), *weights)

        def both(x, h, c, **weights):
            return torch.cat(self.step(student, x, h, c, list(weights.values())), dim=-1)

        expect.gradients(both, x=x, h=h, c=c, **given, what="h and c")


def gru(x, h, weights, order="rzn", reset="sum", candidate=torch.tanh, biases=(True, True)):
    """One step, in the course's form or with one of the usual differences: r, z and n."""
    w_ih, w_hh, b_ih, b_hh = weights
    b_ih, b_hh = biases[0] * b_ih, biases[1] * b_hh
    from_x = dict(zip(order, (x @ w_ih.T + b_ih).chunk(3, dim=-1), strict=True))
    product = dict(zip(order, (h @ w_hh.T).chunk(3, dim=-1), strict=True))
    bias = dict(zip(order, b_hh.chunk(3, dim=-1), strict=True))
    r, z = ((from_x[gate] + product[gate] + bias[gate]).sigmoid() for gate in "rz")
    if reset == "sum":
        from_h = r * (product["n"] + bias["n"])
    elif reset == "product":
        from_h = r * product["n"] + bias["n"]
    elif reset == "state":
        from_h = (r * h) @ dict(zip(order, w_hh.chunk(3), strict=True))["n"].T + bias["n"]
    elif reset == "inverse":
        from_h = (1 - r) * (product["n"] + bias["n"])
    elif reset == "no bias":
        from_h = r * product["n"]
    elif reset == "everywhere":
        other = dict(zip(order, ((r * h) @ w_hh.T + b_hh).chunk(3, dim=-1), strict=True))
        return r, (from_x["z"] + other["z"]).sigmoid(), candidate(from_x["n"] + other["n"])
    elif reset == "none":
        from_h = product["n"] + bias["n"]
    elif reset == "all":
        return r, z, candidate(r * (from_x["n"] + product["n"] + bias["n"]))
    elif reset == "input":
        return r, z, candidate(r * from_x["n"] + product["n"] + bias["n"])
    else:
        return r, z, candidate(from_x["n"])
    return r, z, candidate(from_x["n"] + from_h)


def blend(parts, h):
    _, z, n = parts
    return (1 - z) * n + z * h


@pytest.mark.exercise("gru_cell")
class TestGruCell:
    @pytest.mark.points(1)
    def test_one_state_for_each_row(self, student, rng):
        """returns one new state for each row of the batch"""
        B, D, H = sizes(rng)
        x, h, _, weights = draw(rng, 3, B, D, H)
        out = student.gru_cell(x, h, *weights)
        ask = "Each gate has H of the 3H columns. Along which dimension do you cut, and into how many?"
        expect.array(out, shape=(B, H), dtype=torch.float32, what="the new state (B, H)", ask=ask)

    @pytest.mark.points(3)
    @pytest.mark.needs("test_one_state_for_each_row")
    def test_agrees_with_pytorch(self, student, rng):
        """agrees with PyTorch's cell on the same weights"""
        B, D, H = sizes(rng)
        for rows in (B, 1):
            x, h, _, weights = draw(rng, 3, rows, D, H)
            out = student.gru_cell(x, h, *weights)
            x, h, *weights = doubled(x, h, *weights)
            r, z, n = gru(x, h, weights)
            resets = {
                "a reset gate that acts on h, before the product: here it acts on W_hn h + b_hn": "state",
                "a reset gate that acts on W_hn h alone: the bias b_hn is reset with it": "product",
                "a candidate without the reset gate": "none",
                "a reset gate that acts on the input as well: only what comes from h is reset": "all",
                "a reset gate that acts on the input, not on what comes from h": "input",
                "a candidate that never sees h": "nothing",
                "a reset gate the other way round, 1 − r in the place of r": "inverse",
                "a candidate without b_hn": "no bias",
                "a reset gate that acts on h before every product, z's too": "everywhere",
            }
            mistakes = {
                **{name: blend(gru(x, h, weights, reset=reset), h) for name, reset in resets.items()},
                "z and 1 − z in each other's places: z keeps the old state": z * n + (1 - z) * h,
                "a candidate without tanh": blend(gru(x, h, weights, candidate=lambda n: n), h),
                "a candidate with a sigmoid: it may be negative": blend(
                    gru(x, h, weights, candidate=torch.sigmoid), h
                ),
                "the candidate alone: z blends it with the old state": n,
                "(1 − z) ⊙ n without the old state": (1 - z) * n,
                "z ⊙ h without the candidate": z * h,
                "n + z ⊙ h: the shares of n and h sum to 1": n + z * h,
                "(1 − z) ⊙ n + h: the shares of n and h sum to 1": (1 - z) * n + h,
                "the reset gate in the place of the update gate": (1 - r) * n + r * h,
                "the old state as it was": h,
                **{f"the state {name}": blend(gru(x, h, weights, biases=use), h) for name, use in NO_BIAS.items()},
                **{
                    f"gates read in the order {', '.join(order)}: the rows belong to r, z, n": blend(
                        gru(x, h, weights, order), h
                    )
                    for order in permutations("rzn")
                    if order != tuple("rzn")
                },
            }  # fmt: skip
            ask = "Which rows make r, z and n, what does r act on, and which share of the new state is old?"
            expected = torch.gru_cell(x, h, *weights)
            expect.close(out, expected, what="the new state", ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_pytorch")
    def test_gates_open_and_shut(self, student, rng):
        """keeps its state exactly where the update gate is 1, and replaces it where it is 0"""
        B, D, H = sizes(rng)
        x, h, _, (w_ih, w_hh, b_ih, b_hh) = draw(rng, 3, B, D, H)
        ask = "What are σ(1000) and σ(-1000), and does your σ come out there without dividing by infinity?"
        for r, z in ((0.0, HUGE), (-HUGE, -HUGE), (HUGE, -HUGE)):
            bias = b_ih + torch.tensor([r, z, 0.0]).repeat_interleave(H)
            out = student.gru_cell(x, h, w_ih, w_hh, bias, b_hh)
            expected = torch.gru_cell(x, h, w_ih, w_hh, bias, b_hh)
            what = "the state behind an update gate of 1" if z > 0 else "the state behind an update gate of 0"
            expect.close(out, expected, what=what, ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_pytorch")
    def test_every_size(self, student, rng):
        """works for one row, one feature and one hidden unit"""
        B, D, H = sizes(rng)
        for b, d, n in ((B, 1, H), (B, D, 1), (1, 1, 1), (3 * H, D, H)):
            x, h, _, weights = draw(rng, 3, b, d, n)
            out = student.gru_cell(x, h, *weights)
            ask = "Which step drops a size of 1, or cuts along the batch?"
            expect.close(out, torch.gru_cell(x, h, *weights), what="the new state", ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_one_state_for_each_row")
    def test_inputs_and_gradients(self, student, rng):
        """leaves what comes in alone, keeps float64, and sends the right gradients back"""
        B, D, H = sizes(rng)
        x, h, _, weights = draw(rng, 3, B, D, H, DOUBLE)
        given = dict(zip(("w_ih", "w_hh", "b_ih", "b_hh"), weights, strict=True))
        with expect.unchanged(x=x, h=h, **given):
            student.gru_cell(x, h, *weights)
        expect.gradients(student.gru_cell, x=x, h=h, **given, what="the new state")

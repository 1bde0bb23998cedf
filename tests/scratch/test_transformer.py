"""Properties of ``scratch.transformer``, judged by ``torch.nn.Transformer`` and its parts on the same weights."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from scratch.attention import attention_weights, causal_mask
from scratch.positions import sinusoidal_encoding
from scratch.reach import gradient_reach
from scratch.transformer import Decoder, DecoderLayer, Transformer, combine_masks, parameter_budget

D, H, F_, LAYERS = 12, 3, 20, 2
V, PAD = 17, 0
B, S, T = 3, 6, 5
NORMS = pytest.mark.parametrize("norm_first", [False, True], ids=["post-norm", "pre-norm"])
KINDS = st.sampled_from(["none", "boolean", "additive"])
quick = settings(max_examples=40, deadline=None)

# What a part is called here, and in PyTorch's layers.
NAMES = {
    "attention.output": "self_attn.out_proj",
    "self_attention.output": "self_attn.out_proj",
    "cross_attention.output": "multihead_attn.out_proj",
    "feed_forward.hidden": "linear1",
    "feed_forward.output": "linear2",
}
PACKED = {
    "attention": "self_attn",
    "self_attention": "self_attn",
    "cross_attention": "multihead_attn",
}
NORM_NAMES = {
    "encoder": ["attention_residual", "feed_forward_residual"],
    "decoder": ["self_attention_residual", "cross_attention_residual", "feed_forward_residual"],
}


def torch_names(layer, side):
    """What stands in PyTorch's layer under which name: from ours, packed (query, key, value) or one to one."""
    names = {}
    for ours, theirs in PACKED.items():
        for kind in ("weight", "bias"):
            parts = [f"{ours}.{part}.{kind}" for part in ("query", "key", "value")]
            if parts[0] in layer:
                names[f"{theirs}.in_proj_{kind}"] = parts
    pairs = NAMES | {f"{name}.norm": f"norm{i}" for i, name in enumerate(NORM_NAMES[side], start=1)}
    for ours, theirs in pairs.items():
        for kind in ("weight", "bias"):
            if f"{ours}.{kind}" in layer:
                names[f"{theirs}.{kind}"] = [f"{ours}.{kind}"]
    return names


def same_weights(ours, theirs, side):
    """Give PyTorch's layer the weights of ours; return the pairs of (its parameter, our parameters)."""
    weights = dict(ours.named_parameters())
    names = torch_names(weights, side)
    theirs.load_state_dict(
        {name: torch.cat([weights[part].detach() for part in parts]) for name, parts in names.items()}
    )
    assert sum(len(parts) for parts in names.values()) == len(weights)
    there = dict(theirs.named_parameters())
    return [(there[name], [weights[part] for part in parts]) for name, parts in names.items()]


def stack_pairs(ours, theirs, side):
    """The same for a whole stack of layers and its last norm."""
    pairs = [
        pair
        for one, other in zip(ours.layers, theirs.layers, strict=True)
        for pair in same_weights(one, other, side)
    ]
    for parameter, other in zip(
        ours.norm.parameters(), [*theirs.norm.parameters()] if theirs.norm else [], strict=True
    ):
        other.data.copy_(parameter.data)
        pairs.append((other, [parameter]))
    return pairs


def same_gradients(pairs):
    for theirs, ours in pairs:
        torch.testing.assert_close(torch.cat([part.grad for part in ours]), theirs.grad)


def shaken(module):
    """Norms and biases off their starting values, so that they count; in float64, for evaluation."""
    for parameter in module.parameters():
        if parameter.dim() == 1:
            nn.init.normal_(parameter, mean=0.5, std=0.5)
    return module.double().eval()


def torch_decoder(norm_first, layers=LAYERS):
    layer = nn.TransformerDecoderLayer(D, H, F_, dropout=0.1, batch_first=True, norm_first=norm_first)
    return nn.TransformerDecoder(layer, layers, norm=nn.LayerNorm(D) if norm_first else None).double().eval()


class Reference(nn.Module):
    """``nn.Transformer`` between an embedding with sinusoids and logits by the same table."""

    def __init__(self, norm_first):
        super().__init__()
        layer = nn.TransformerEncoderLayer(D, H, F_, batch_first=True, norm_first=norm_first)
        encoder = nn.TransformerEncoder(
            layer, LAYERS, norm=nn.LayerNorm(D) if norm_first else None, enable_nested_tensor=False
        )
        self.core = nn.Transformer(
            D, H, custom_encoder=encoder, custom_decoder=torch_decoder(norm_first), batch_first=True
        )
        self.table = nn.Parameter(torch.empty(V, D))
        self.double().eval()

    def embed(self, ids):
        return F.embedding(ids, self.table) * math.sqrt(D) + sinusoidal_encoding(ids.shape[1], D).double()

    def forward(self, source, target):
        x = self.core(
            self.embed(source), self.embed(target), tgt_mask=~causal_mask(target.shape[1]),
            src_key_padding_mask=source == PAD, tgt_key_padding_mask=target == PAD,
            memory_key_padding_mask=source == PAD,
        )  # fmt: skip
        return x @ self.table.T


def drawn_mask(kind, *shape):
    """A mask in which every row permits at least one key: nn.MultiheadAttention knows no empty rows."""
    if kind == "none":
        return None
    mask = torch.rand(shape) < 0.6
    mask[..., 0] |= ~mask.any(dim=-1)
    return (
        mask if kind == "boolean" else torch.randn(shape, dtype=torch.float64).masked_fill(~mask, -math.inf)
    )


def torch_mask(mask):
    """The same for PyTorch's layers: True forbids, and each head of each sequence has a map of its own."""
    if mask is None:
        return None
    mask = ~mask if mask.dtype == torch.bool else mask
    return mask.repeat_interleave(H, dim=0)  # (B, T, S) -> (B·H, T, S)


def ids(length, pads=()):
    """Ids (B, length), no id twice in a row of a sequence, with so many pads at the end of each."""
    drawn = torch.stack([1 + torch.randperm(V - 1)[:length] for _ in range(B)])
    for row, count in zip(drawn, pads, strict=False):
        row[length - count :] = PAD
    return drawn


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(12)


class TestCombineMasks:
    SHAPES = st.lists(st.sampled_from([(5,), (4, 5), (2, 1, 5), (2, 4, 5), (1, 4, 1)]), max_size=4)

    @quick
    @given(SHAPES, st.data(), st.integers(0, 10**6))
    def test_attention_under_all_of_them_is_attention_under_their_combination(self, shapes, data, seed):
        torch.manual_seed(seed)
        masks = [drawn_mask(data.draw(KINDS), *shape) for shape in shapes]
        scores, together = (
            torch.randn(2, 4, 5, dtype=torch.float64),
            torch.zeros(2, 4, 5, dtype=torch.float64),
        )
        for mask in masks:
            if mask is not None:
                boolean = mask.dtype == torch.bool
                together = together.masked_fill(~mask, -math.inf) if boolean else together + mask
        out = attention_weights(scores, combine_masks(*masks))
        torch.testing.assert_close(out, attention_weights(scores, together), rtol=1e-9, atol=1e-12)

    @quick
    @given(st.lists(KINDS, max_size=5))
    def test_is_boolean_where_all_are(self, kinds):
        masks = [drawn_mask(kind, 4, 5) for kind in kinds]
        combined = combine_masks(*masks)
        kinds = {kind for kind in kinds if kind != "none"}
        assert (combined is None) == (not kinds)
        if kinds:
            assert combined.dtype == (torch.bool if kinds == {"boolean"} else torch.float64)

    def test_leaves_its_masks_alone_and_passes_gradients_on(self):
        bias = torch.randn(4, 5, requires_grad=True)
        causal = torch.ones(4, 5, dtype=torch.bool).tril()
        before = causal.clone()
        combined = combine_masks(causal, bias, causal.flip(0), torch.zeros(5))
        combined.exp().sum().backward()
        assert torch.equal(causal, before)
        assert torch.equal(bias.grad != 0, causal & causal.flip(0))


class TestDecoderLayer:
    def make(self, norm_first):
        ours = shaken(DecoderLayer(D, H, F_, norm_first=norm_first))
        theirs = nn.TransformerDecoderLayer(D, H, F_, batch_first=True, norm_first=norm_first)
        return ours, theirs.double().eval()

    @settings(max_examples=25, deadline=None)
    @given(st.booleans(), KINDS, KINDS, st.integers(0, 10**6))
    def test_agrees_with_pytorch_in_values_and_gradients(self, norm_first, kind, memory_kind, seed):
        torch.manual_seed(seed)
        ours, theirs = self.make(norm_first)
        pairs = same_weights(ours, theirs, "decoder")
        mask, memory_mask = drawn_mask(kind, B, T, T), drawn_mask(memory_kind, B, T, S)
        inputs = [torch.randn(B, n, D, dtype=torch.float64, requires_grad=True) for n in (T, S)]
        copies = [x.detach().clone().requires_grad_() for x in inputs]
        out = ours(*inputs, mask, memory_mask)
        expected = theirs(*copies, torch_mask(mask), torch_mask(memory_mask))
        torch.testing.assert_close(out, expected)
        weights = torch.randn_like(out)
        (out * weights).sum().backward()
        (expected * weights).sum().backward()
        same_gradients([*pairs, *((copy, [x]) for copy, x in zip(copies, inputs, strict=True))])

    @NORMS
    def test_reaches_what_the_masks_permit_and_nothing_else(self, norm_first):
        ours, _ = self.make(norm_first)
        x, memory = (torch.randn(n, D, dtype=torch.float64) for n in (T, S))
        causal, real = causal_mask(T), torch.tensor([[True, True, False, True, True, False]])
        reach = gradient_reach(lambda x: ours(x[None], memory[None], causal, real)[0], x)
        assert torch.equal(reach > 0, causal)
        reach = gradient_reach(lambda memory: ours(x[None], memory[None], causal, real)[0], memory)
        assert torch.equal(reach > 0, real.expand(T, S))

    def test_dropout_of_everything_leaves_the_residual_stream(self):
        layer = DecoderLayer(D, H, F_, dropout=1.0, norm_first=True)
        x = torch.randn(B, T, D)
        assert torch.equal(layer(x, torch.randn(B, S, D)), x)


class TestDecoder:
    @NORMS
    @pytest.mark.parametrize("kind", ["none", "boolean", "additive"])
    def test_agrees_with_pytorch_in_values_and_gradients(self, norm_first, kind):
        ours, theirs = shaken(Decoder(D, H, F_, LAYERS, norm_first=norm_first)), torch_decoder(norm_first)
        pairs = stack_pairs(ours, theirs, "decoder")
        mask, memory_mask = drawn_mask(kind, B, T, T), drawn_mask(kind, B, T, S)
        x, memory = (torch.randn(B, n, D, dtype=torch.float64) for n in (T, S))
        out = ours(x, memory, mask, memory_mask)
        expected = theirs(x, memory, torch_mask(mask), torch_mask(memory_mask))
        torch.testing.assert_close(out, expected)
        weights = torch.randn_like(out)
        (out * weights).sum().backward()
        (expected * weights).sum().backward()
        same_gradients(pairs)

    @NORMS
    def test_layers_are_objects_of_their_own(self, norm_first):
        decoder = Decoder(D, H, F_, 3, norm_first=norm_first)
        assert len({id(parameter) for parameter in decoder.parameters()}) == 3 * 26 + 2 * norm_first


class TestTransformer:
    def make(self, norm_first):
        ours, theirs = Transformer(V, D, H, F_, LAYERS, norm_first=norm_first), Reference(norm_first)
        nn.init.normal_(ours.embedding.weight)
        shaken(ours)
        pairs = stack_pairs(ours.encoder, theirs.core.encoder, "encoder")
        pairs += stack_pairs(ours.decoder, theirs.core.decoder, "decoder")
        theirs.table.data.copy_(ours.embedding.weight.data)
        return ours, theirs, [*pairs, (theirs.table, [ours.embedding.weight])]

    @NORMS
    @pytest.mark.parametrize("pads", [((), ()), ((2, 0, 3), (0, 1, 2))], ids=["full", "padded"])
    def test_agrees_with_pytorch_in_values_and_gradients(self, norm_first, pads):
        ours, theirs, pairs = self.make(norm_first)
        source, target = ids(S, pads[0]), ids(T, pads[1])
        out, expected = ours(source, target), theirs(source, target)
        torch.testing.assert_close(out, expected)
        weights = torch.randn_like(out)
        (out * weights).sum().backward()
        (expected * weights).sum().backward()
        same_gradients(pairs)

    @NORMS
    def test_padding_changes_nothing(self, norm_first):
        ours, _, _ = self.make(norm_first)
        source, target = ids(S), ids(T)
        padded = [F.pad(x, (0, 3), value=PAD) for x in (source, target)]
        torch.testing.assert_close(ours(*padded)[:, :T], ours(source, target))

    @NORMS
    def test_written_one_by_one_it_says_what_it_says_of_all_at_once(self, norm_first):
        ours, _, _ = self.make(norm_first)
        source, target = ids(S, (1, 0, 2)), ids(T)
        together, memory = ours(source, target), ours.encode(source)
        for t in range(T):
            torch.testing.assert_close(ours.decode(target[:, : t + 1], memory, source)[:, t], together[:, t])

    @NORMS
    def test_reaches_every_source_token_and_every_earlier_target(self, norm_first):
        """Ids cannot be differentiated, rows of the table can: each position has an id of its own, and a row.

        The logit that is read belongs to a token that occurs nowhere, for the table makes the logits as well.
        """
        ours, _, _ = self.make(norm_first)
        order = 1 + torch.randperm(V - 1)
        source, target, absent = order[:S], order[S : S + T], order[-1]
        source[-1] = PAD
        out = ours(source[None], target[None])[0, :, absent]  # (T,)
        reach = torch.stack(
            [torch.autograd.grad(y, ours.embedding.weight, retain_graph=True)[0] for y in out]
        ).norm(dim=-1)  # (T, V)
        assert torch.equal(reach[:, target] > 0, causal_mask(T))
        assert (reach[:, source[:-1]] > 0).all()
        assert (reach[:, PAD] == 0).all()

    def test_one_table_serves_source_target_and_logits(self):
        ours = Transformer(V, D, H, F_, LAYERS)
        assert [n for n, p in ours.named_parameters() if V in p.shape] == ["embedding.weight"]

    def test_starts_with_inputs_and_logits_near_one(self):
        ours = Transformer(1000, 64, 4, 128, 1).eval()
        embedded = ours.embedding(torch.arange(1000)) * 8
        logits = ours(torch.randint(1, 1000, (4, 7)), torch.randint(1, 1000, (4, 9)))
        assert embedded.std().item() == pytest.approx(1, abs=0.05)
        assert logits.std().item() == pytest.approx(1, abs=0.1)

    def test_may_start_from_padding_and_read_nothing(self):
        ours, _, _ = self.make(False)
        out = ours(torch.full((1, S), PAD), torch.full((1, T), PAD))
        out.sum().backward()
        assert out.isfinite().all()
        assert all(p.grad is None or p.grad.isfinite().all() for p in ours.parameters())


class TestParameterBudget:
    @NORMS
    @pytest.mark.parametrize("layers", [0, 1, 3])
    def test_counts_what_is_there(self, norm_first, layers):
        with torch.device("meta"):
            model = Transformer(V, D, H, F_, layers, norm_first=norm_first)
        budget = parameter_budget(V, D, F_, layers, norm_first)
        assert sum(budget.values()) == sum(parameter.numel() for parameter in model.parameters())

        def count(*parts):
            named = model.named_parameters()
            return sum(p.numel() for name, p in named if all(part in name for part in parts))

        assert budget == {
            "embedding": count("embedding"),
            "encoder attention": count("encoder", ".attention."),
            "encoder feed-forward": count("encoder", ".feed_forward."),
            "decoder self-attention": count(".self_attention."),
            "decoder cross-attention": count(".cross_attention."),
            "decoder feed-forward": count("decoder", ".feed_forward."),
            "norms": count("norm"),
        }

    def test_base_model_of_2017(self):
        with torch.device("meta"):
            model = Transformer(37_000)
        total = sum(parameter.numel() for parameter in model.parameters())
        assert total == sum(parameter_budget(37_000, 512, 2048, 6).values()) == 63_082_496

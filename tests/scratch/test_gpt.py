"""The decoder-only model: beside transformers' GPT-2, with caches, ragged batches; and perplexity."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from scratch.cache import CachedAttention, KVCache
from scratch.gpt import GPT, perplexity
from scratch.multi_head_attention import MultiHeadAttention

V, D, H, L, LONGEST = 17, 12, 3, 2, 20


def make(seed: int = 0) -> GPT:
    """A model whose weights are large enough for every part to count."""
    torch.manual_seed(seed)
    model = GPT(V, LONGEST, D, H, L).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    return model


def padded(*lengths: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids in a rectangle, tokens at the right, and where they are."""
    longest = max(lengths)
    ids = torch.randint(0, V, (len(lengths), longest), generator=torch.Generator().manual_seed(seed))
    return ids, torch.arange(longest) >= longest - torch.tensor(lengths)[:, None]


def test_agrees_with_transformers_gpt2_on_shared_weights():
    """Theirs keeps maps as (in, out), three of attention in one; GELU's tanh form is "gelu_new" there."""
    config = GPT2Config(
        vocab_size=V, n_positions=LONGEST, n_embd=D, n_layer=L, n_head=H,
        activation_function="gelu_new", resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    theirs, ours = GPT2LMHeadModel(config).eval(), make()
    weights = {"wte.weight": ours.embedding.weight, "wpe.weight": ours.positions.weight}
    weights |= {f"ln_f.{kind}": getattr(ours.norm, kind) for kind in ("weight", "bias")}
    for i, layer in enumerate(ours.layers):
        a, f = layer.attention, layer.feed_forward
        packed = [
            torch.cat([getattr(m, kind) for m in (a.query, a.key, a.value)]) for kind in ("weight", "bias")
        ]
        maps = {"attn.c_attn": packed, "attn.c_proj": (a.output.weight, a.output.bias)}
        maps |= {"mlp.c_fc": (f.hidden.weight, f.hidden.bias), "mlp.c_proj": (f.output.weight, f.output.bias)}
        for name, (weight, bias) in maps.items():
            weights |= {f"h.{i}.{name}.weight": weight.T, f"h.{i}.{name}.bias": bias}
        for name, residual in (("ln_1", layer.attention_residual), ("ln_2", layer.feed_forward_residual)):
            weights |= {f"h.{i}.{name}.{kind}": getattr(residual.norm, kind) for kind in ("weight", "bias")}
    missing = theirs.transformer.load_state_dict({k: w.detach() for k, w in weights.items()}, strict=False)
    assert not missing.missing_keys
    assert not missing.unexpected_keys
    ids, real = padded(9, 4, 7)
    with torch.no_grad():
        torch.testing.assert_close(ours(ids), theirs(ids).logits, atol=1e-4, rtol=1e-4)
        position = (real.cumsum(-1) - 1).clamp(min=0)
        beside = theirs(ids, attention_mask=real.long(), position_ids=position).logits
        torch.testing.assert_close(ours(ids, real)[real], beside[real], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("chunks", [[1] * 9, [4, 1, 1, 3], [9], [1, 8]])
def test_with_caches_every_position_is_as_without(chunks):
    model = make()
    ids, real = padded(9, 3, 6, 1)
    with torch.no_grad():
        whole, caches, start = model(ids, real), [KVCache() for _ in model.layers], 0
        for size in chunks:
            part = model(ids[:, start : start + size], real[:, : start + size], caches)
            here = real[:, start : start + size]
            torch.testing.assert_close(part[here], whole[:, start : start + size][here], atol=1e-4, rtol=1e-4)
            start += size
            assert {len(cache) for cache in caches} == {start}


def test_a_text_is_scored_the_same_with_padding_before_it_and_alone():
    model = make()
    ids, real = padded(9, 3, 6, 1)
    with torch.no_grad():
        batch = model(ids, real)
        for row, mask, logits in zip(ids, real, batch, strict=True):
            torch.testing.assert_close(logits[mask], model(row[mask][None])[0], atol=1e-4, rtol=1e-4)
    assert batch.isfinite().all()


def test_looks_back_and_never_ahead():
    model = make()
    ids = torch.randperm(V - 1)[None, :6]
    logits = model(ids)[0, :, V - 1]  # of a token that stands nowhere
    rows = [torch.autograd.grad(y, model.embedding.weight, retain_graph=True)[0] for y in logits]
    seen = (torch.stack(rows)[:, ids[0]] != 0).any(-1)  # (T, T)
    assert torch.equal(seen, torch.ones(6, 6, dtype=torch.bool).tril())


def test_a_text_that_is_too_long_is_refused_and_padding_does_not_count():
    model = make()
    real = torch.ones(1, LONGEST + 1, dtype=torch.bool)
    with pytest.raises(ValueError, match="longer than the 20 positions"):
        model(torch.zeros(1, LONGEST + 1, dtype=torch.int64))
    real[0, 0] = False
    assert model(torch.zeros(1, LONGEST + 1, dtype=torch.int64), real).isfinite().all()


@pytest.mark.parametrize("width", [16, 64, 128])
def test_the_logits_of_a_new_model_are_near_one_whatever_its_width(width):
    torch.manual_seed(0)
    model = GPT(V, LONGEST, width, 4, 2).eval()
    with torch.no_grad():
        spread = model(torch.randint(0, V, (50, LONGEST))).std()
    assert 0.7 < spread < 1.5


def test_cached_attention_without_cache_is_its_parent():
    torch.manual_seed(0)
    ours, parent = CachedAttention(D, H), MultiHeadAttention(D, H)
    ours.load_state_dict(parent.state_dict())
    x, mask = torch.randn(2, 5, D), torch.rand(2, 5, 5) < 0.6
    for m in (None, mask, mask[0]):
        torch.testing.assert_close(ours(x, m), parent(x, mask=m))


class Table(nn.Module):
    """A bigram model, with a dropout that evaluation must switch off."""

    def __init__(self, logits: torch.Tensor):
        super().__init__()
        self.register_buffer("logits", logits)
        self.dropout = nn.Dropout(0.5)

    def forward(self, ids):
        return self.dropout(self.logits)[ids]


def test_perplexity_counts_every_target_once_whatever_the_batches():
    torch.manual_seed(0)
    logits, ids, targets = torch.randn(V, V), torch.randint(0, V, (5, 8)), torch.randint(0, V, (5, 8))
    targets[2, 3:] = targets[4, 1:] = -100
    expected = F.cross_entropy(logits[ids].flatten(0, 1), targets.flatten()).exp().item()
    model = Table(logits).train()
    for sizes in ([5], [2, 3], [1, 1, 3]):
        parts = zip(ids.split(sizes), targets.split(sizes), strict=True)
        assert perplexity(model, parts) == pytest.approx(expected, rel=1e-5)
        assert model.training
    assert perplexity(Table(torch.zeros(V, V)), [(ids, targets)]) == pytest.approx(V, rel=1e-5)


def test_perplexity_of_nothing_is_refused():
    ids = torch.zeros(1, 3, dtype=torch.int64)
    with pytest.raises(ValueError, match="no targets"):
        perplexity(Table(torch.zeros(V, V)), [(ids, torch.full_like(ids, -100))])

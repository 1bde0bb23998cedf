"""Properties of ``scratch.t5`` and ``scratch.t5_layers``, judged by the T5 of ``transformers`` on the same weights."""

import inspect
import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import T5Config, T5ForConditionalGeneration
from transformers.models.t5.modeling_t5 import T5Attention as TheirAttention

from scratch import t5_layers
from scratch.attention import causal_mask
from scratch.cache import KVCache
from scratch.t5 import T5, RMSNorm, T5Attention, published_weights, relative_position_bucket, write

ROOT = Path(__file__).parents[2]
V, D, H, K, INNER, LAYERS, BUCKETS, FAR = 23, 12, 2, 5, 9, 3, 8, 10
KINDS = pytest.mark.parametrize(
    ("gated", "tied"), [(False, True), (False, False), (True, True), (True, False)]
)
quick = settings(max_examples=30, deadline=None)


def models(gated, tied, seed=0):
    """Theirs, with random weights, and ours with the same."""
    torch.manual_seed(seed)
    config = T5Config(
        vocab_size=V,
        d_model=D,
        d_kv=K,
        d_ff=INNER,
        num_layers=LAYERS,
        num_heads=H,
        relative_attention_num_buckets=BUCKETS,
        relative_attention_max_distance=FAR,
        feed_forward_proj="gated-gelu" if gated else "relu",
        tie_word_embeddings=tied,
        decoder_start_token_id=0,
    )
    theirs = T5ForConditionalGeneration(config).eval()
    if not tied:  # this version always ties them
        theirs.lm_head.weight = torch.nn.Parameter(torch.randn(V, D))
    with torch.no_grad():
        for name, weight in theirs.named_parameters():
            if "norm" in name or "bias" in name:
                weight.add_(torch.randn_like(weight) * 0.3)
    ours = T5(V, D, H, K, INNER, LAYERS, gated=gated, tied=tied, buckets=BUCKETS, max_distance=FAR).eval()
    ours.load_state_dict(published_weights(theirs.state_dict(), tied))
    return theirs, ours


def texts(seed=0, B=3, S=17, T=14):
    """Sources with padding at either end, and labels with −100 behind."""
    random = torch.Generator().manual_seed(seed)
    source = torch.randint(1, V, (B, S), generator=random)
    source[0, 12:] = source[-1, :3] = 0
    labels = torch.randint(1, V, (B, T), generator=random)
    labels[1, 9:] = -100
    return source, labels


@KINDS
@torch.no_grad()
def test_logits_and_memory_are_those_of_transformers(gated, tied):
    theirs, ours = models(gated, tied)
    source, labels = texts()
    expected = theirs(input_ids=source, attention_mask=(source != 0).long(), labels=labels)
    torch.testing.assert_close(ours(source, labels), expected.logits, atol=1e-4, rtol=0)
    real = source != 0
    memory = ours.encode(source)[real]
    torch.testing.assert_close(memory, expected.encoder_last_hidden_state[real], atol=1e-4, rtol=0)


@KINDS
def test_gradients_are_those_of_transformers(gated, tied):
    theirs, ours = models(gated, tied)
    source, labels = texts(1)
    theirs(input_ids=source, attention_mask=(source != 0).long(), labels=labels).loss.backward()
    F.cross_entropy(ours(source, labels).flatten(0, 1), labels.flatten()).backward()
    found = {name: weight.grad for name, weight in theirs.named_parameters()}
    expected = published_weights(found, tied)
    for name, weight in ours.named_parameters():
        torch.testing.assert_close(weight.grad, expected[name], atol=1e-4, rtol=1e-3, msg=name)


@KINDS
@torch.no_grad()
def test_caches_lead_to_the_same_logits_however_the_target_is_cut(gated, tied):
    _, ours = models(gated, tied)
    source, labels = texts(2)
    memory, shown = ours.encode(source), ours.shift_right(labels)
    whole = ours.decode(shown, memory, source)
    for sizes in ([1] * 14, [5, 1, 8], [14]):
        caches = ours.new_caches()
        parts = [ours.decode(part, memory, source, caches) for part in shown.split(sizes, dim=1)]
        torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-5, rtol=1e-4)
        assert [(len(own), len(across)) for own, across in caches] == [(14, 17)] * LAYERS


@torch.no_grad()
def test_cached_writing_is_the_greedy_generation_of_transformers():
    theirs, ours = models(True, True)
    source, _ = texts(3)
    expected = theirs.generate(
        input_ids=source, attention_mask=(source != 0).long(), max_new_tokens=9, do_sample=False, num_beams=1
    )[:, 1:]
    written = write(ours, source, end=1, limit=9)
    assert torch.equal(written[:, : expected.shape[1]], expected)


@quick
@given(
    st.booleans(),
    st.sampled_from([4, 6, 8, 12, 16, 32, 40]),
    st.integers(25, 300),
)
def test_buckets_are_those_of_transformers(bidirectional, buckets, most):
    relative = torch.arange(-2 * most, 2 * most + 1)
    expected = TheirAttention._relative_position_bucket(relative, bidirectional, buckets, most)
    assert torch.equal(relative_position_bucket(relative, bidirectional, buckets, most), expected)


@quick
@given(st.lists(st.integers(1, 4), max_size=3), st.integers(1, 9), st.integers(0, 99))
def test_the_norm_is_pytorchs(lead, width, seed):
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(*lead, width, generator=random) * 3 + 1
    norm = RMSNorm(width)
    norm.weight.data = torch.randn(width, generator=random)
    torch.testing.assert_close(norm(x), F.rms_norm(x, (width,), norm.weight, 1e-6))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_norm_keeps_the_dtype_and_survives_large_rows(dtype):
    x = torch.tensor([[400.0, -500.0, 600.0]], dtype=dtype)
    out = RMSNorm(3)(x)
    assert out.dtype == dtype
    torch.testing.assert_close(out.double(), F.rms_norm(x.double(), (3,)), atol=1e-2, rtol=1e-2)


def test_scores_are_not_scaled_and_heads_have_any_width():
    attention = T5Attention(7, 3, 4)
    x = torch.randn(2, 5, 7)
    q, k, v = (
        part(x).unflatten(-1, (3, 4)).transpose(1, 2)
        for part in (attention.query, attention.key, attention.value)
    )
    found = F.scaled_dot_product_attention(q, k, v, scale=1.0).transpose(1, 2).flatten(-2)
    torch.testing.assert_close(attention(x), attention.output(found))


def test_a_cache_of_a_memory_is_filled_once():
    attention, cache = T5Attention(7, 3, 4), KVCache()
    memory, x = torch.randn(2, 6, 7), torch.randn(2, 5, 7)
    first = attention(x, memory, None, cache)
    torch.testing.assert_close(attention(x, torch.randn(2, 6, 7), None, cache), first)
    assert len(cache) == 6


def test_a_cache_of_what_was_written_grows():
    attention, cache = T5Attention(7, 3, 4), KVCache()
    x = torch.randn(2, 5, 7)
    whole = attention(x, None, causal_mask(5))
    parts = [attention(x[:, t : t + 1], None, None, cache) for t in range(5)]
    torch.testing.assert_close(torch.cat(parts, 1), whole)


def test_padding_of_the_source_reaches_nothing():
    _, ours = models(True, True)
    source, labels = texts(4)
    longer = torch.cat([source, torch.zeros(3, 4, dtype=torch.int64)], 1)
    torch.testing.assert_close(ours(longer, labels), ours(source, labels), atol=1e-5, rtol=1e-4)


def test_first_scores_are_as_large_as_with_a_division():
    torch.manual_seed(0)
    attention = T5Attention(256, 4, 64)
    x = torch.randn(1, 400, 256)
    q, k = (part(x).unflatten(-1, (4, 64)).transpose(1, 2) for part in (attention.query, attention.key))
    assert 0.8 < (q @ k.transpose(-2, -1)).std() < 1.25


def test_the_small_model_has_as_many_parameters_as_the_published_one():
    with torch.device("meta"):
        assert sum(weight.numel() for weight in T5(32_128).parameters()) == 60_506_624


def test_the_notebook_gives_the_stacks_of_the_library():
    """The cell that the learner is given is a copy; whoever changes the one changes the other."""
    cells = json.loads((ROOT / "solutions/18_t5/t5.ipynb").read_text())["cells"]
    (given,) = ("".join(cell["source"]) for cell in cells if cell.get("id") == "stacks")
    source = inspect.getsource(t5_layers)
    assert given.strip() == source[source.index("class T5FeedForward") :].strip()

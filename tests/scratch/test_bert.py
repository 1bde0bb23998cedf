"""Properties of ``scratch.bert``, judged by the BERT of ``transformers`` on the same weights, drawn or published."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertConfig
from transformers.models.bert import modeling_bert as published_bert

from scratch.bert import BertEmbeddings, BertModel, SequenceClassifier, load_pretrained, mask_tokens
from scratch.bert_pretraining import IGNORE, MaskedLanguageModel, fill, masked_loss, masked_scores
from scratch.bert_rewards import from_folder, published
from scratch.data.cache import NotBuilt
from scratch.data.checkpoint import checkpoint_folder
from scratch.layers import Encoder

V, D, H, WIDE, LAYERS, LONGEST = 17, 12, 3, 20, 2, 9
B, T = 3, 7
quick = settings(max_examples=40, deadline=None)

try:
    folder, why = checkpoint_folder(), ""
except NotBuilt as error:
    folder, why = None, str(error)
needs_checkpoint = pytest.mark.skipif(folder is None, reason=why)


def theirs(kind=published_bert.BertModel, **options):
    """A small BERT of ``transformers`` whose biases and norms count, in evaluation mode."""
    config = BertConfig(
        vocab_size=V, hidden_size=D, num_hidden_layers=LAYERS, num_attention_heads=H, intermediate_size=WIDE,
        max_position_embeddings=LONGEST, attn_implementation="eager", **options,
    )  # fmt: skip
    model = kind(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def ours(weights, **options):
    model = BertModel(V, D, H, WIDE, LAYERS, max_length=LONGEST, **options)
    load_pretrained(model, weights)
    return model.eval()


def batch():
    ids, segments = torch.randint(V, (B, T)), torch.randint(2, (B, T))
    real = torch.arange(T) < torch.tensor([T, 4, 1])[:, None]
    return ids, segments, real


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


# ---- hiding tokens --------------------------------------------------------------------------------------------------


@quick
@given(
    st.integers(0, 2**32 - 1),
    st.floats(0.0, 1.0),
    st.lists(st.integers(0, 29), min_size=1, max_size=8, unique=True),
)
def test_only_chosen_tokens_have_labels_and_only_they_change(number, rate, special):
    torch.manual_seed(number)
    ids = torch.randint(30, (4, 11))
    before = ids.clone()
    inputs, labels = mask_tokens(ids, 30, special[0], special, rate)
    chosen = labels != IGNORE
    assert torch.equal(ids, before)
    assert inputs.dtype == labels.dtype == torch.int64
    assert torch.equal(labels[chosen], ids[chosen])
    assert torch.equal(inputs[~chosen], ids[~chosen])
    is_special = torch.isin(ids, torch.tensor(special))
    assert not (chosen & is_special).any()
    drawn = inputs[chosen & (inputs != ids) & (inputs != special[0])]
    assert not torch.isin(drawn, torch.tensor(special)).any()


def test_shares_of_many_draws_are_80_10_10_of_15():
    ids = torch.randint(5, 1005, (400, 500))
    inputs, labels = mask_tokens(ids, 1005, 4, range(5))
    chosen = labels != IGNORE
    n = chosen.sum().item()
    assert abs(n / ids.numel() - 0.15) < 0.005
    hidden, kept = ((chosen & (inputs == value)).sum().item() / n for value in (4, ids))
    assert abs(hidden - 0.8) < 0.015
    assert abs(kept - 0.1) < 0.012


def test_every_ordinary_token_is_drawn_as_often():
    ids = torch.full((300, 400), 7)
    inputs, _ = mask_tokens(ids, 12, 0, [0, 3, 11], 1.0)
    counts = torch.bincount(inputs.flatten(), minlength=12)
    assert counts[[3, 11]].eq(0).all()
    ordinary = counts[[1, 2, 4, 5, 6, 8, 9, 10]].double()
    expected = 0.1 * ids.numel() / 9
    assert ((ordinary - expected).abs() < 6 * math.sqrt(expected)).all()


# ---- the model ------------------------------------------------------------------------------------------------------


def test_embeddings_are_those_of_transformers():
    judge = theirs()
    model = ours(judge.state_dict())
    ids, segments, _ = batch()
    with torch.no_grad():
        assert torch.allclose(
            model.embeddings(ids, segments), judge.embeddings(ids, token_type_ids=segments), atol=1e-5
        )
        assert torch.allclose(model.embeddings(ids), judge.embeddings(ids), atol=1e-5)


def test_too_long_a_text_is_refused():
    with pytest.raises(ValueError, match="5 positions"):
        BertEmbeddings(V, D, max_length=5)(torch.zeros(1, 6, dtype=torch.int64))


@pytest.mark.parametrize("as_numbers", [False, True], ids=["true and false", "one and zero"])
def test_hidden_states_and_pooled_rows_are_those_of_transformers(as_numbers):
    judge = theirs()
    model = ours(judge.state_dict())
    ids, segments, real = batch()
    with torch.no_grad():
        wanted = judge(ids, token_type_ids=segments, attention_mask=real.long())
        hidden = model(ids, segments, real.long() if as_numbers else real)
        assert torch.allclose(hidden[real], wanted.last_hidden_state[real], atol=1e-5)
        assert torch.allclose(model.pool(hidden), wanted.pooler_output, atol=1e-5)
        assert torch.allclose(model(ids), judge(ids).last_hidden_state, atol=1e-5)


def test_in_float64_they_agree_to_ten_digits():
    judge = theirs().double()
    model = BertModel(V, D, H, WIDE, LAYERS, max_length=LONGEST).double().eval()
    load_pretrained(model, judge.state_dict())
    ids, segments, _ = batch()
    with torch.no_grad():
        wanted = judge(ids, token_type_ids=segments).last_hidden_state
        assert torch.allclose(model(ids, segments), wanted, atol=1e-10)


def test_what_padding_holds_changes_nothing():
    model = BertModel(V, D, H, WIDE, LAYERS, max_length=LONGEST).eval()
    ids, segments, real = batch()
    other = torch.where(real, ids, (ids + 1) % V)
    with torch.no_grad():
        assert torch.equal(model(ids, segments, real)[real], model(other, segments, real)[real])


def test_it_reuses_the_encoder_of_the_transformer():
    model = BertModel(V, D, H, WIDE, LAYERS)
    assert type(model.encoder) is Encoder
    assert {norm.eps for norm in model.modules() if hasattr(norm, "eps")} == {1e-12}
    assert all(layer.feed_forward.activation is F.gelu for layer in model.encoder.layers)


def test_a_new_model_starts_small():
    model = BertModel(200, 48, 4, 100, 2)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2 and parameter.numel() > 1000:
            assert abs(parameter.std().item() / 0.02 - 1) < 0.1, name
        elif parameter.ndim == 1:
            assert parameter.eq(float(name.endswith("norm.weight"))).all(), name


def test_bert_base_has_as_many_parameters_as_published():
    with torch.device("meta"):
        model = BertModel(30_522)
        judge = published_bert.BertModel(BertConfig())
    assert (
        sum(p.numel() for p in model.parameters())
        == sum(p.numel() for p in judge.parameters())
        == 109_482_240
    )


# ---- published weights ----------------------------------------------------------------------------------------------


def test_other_heads_are_told_and_old_names_are_read():
    judge = theirs(published_bert.BertForPreTraining)
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): weight
        for name, weight in judge.state_dict().items()
    }
    model = BertModel(V, D, H, WIDE, LAYERS, max_length=LONGEST).eval()
    left = load_pretrained(model, old)
    assert left == sorted(name for name in old if name.startswith("cls.") or name.endswith("position_ids"))
    ids, segments, _ = batch()
    with torch.no_grad():
        wanted = judge.bert(ids, token_type_ids=segments).last_hidden_state
        assert torch.allclose(model(ids, segments), wanted, atol=1e-5)


@given(st.integers(0, 10_000), st.booleans())
@settings(max_examples=15, deadline=None)
def test_what_does_not_fit_is_refused_and_nothing_is_changed(number, wrong_shape):
    state = dict(theirs().state_dict())
    state.pop("embeddings.position_ids", None)
    name = sorted(state)[number % len(state)]
    if wrong_shape:
        state[name] = state[name][..., None]
    else:
        state.pop(name)
    model = BertModel(V, D, H, WIDE, LAYERS, max_length=LONGEST)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError, match="was published for it"):
        load_pretrained(model, state)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_weights_are_copied_and_keep_the_models_dtype():
    state = {name: weight.half() for name, weight in theirs().state_dict().items()}
    model = BertModel(V, D, H, WIDE, LAYERS, max_length=LONGEST)
    load_pretrained(model, state)
    state["pooler.dense.bias"].zero_()
    assert model.pooler.bias.dtype == torch.float32
    assert model.pooler.bias.requires_grad
    assert model.pooler.bias.abs().max() > 0


@needs_checkpoint
def test_the_published_model_gives_the_published_numbers():
    model, left = from_folder(folder, BertModel, load_pretrained)
    assert left == ["embeddings.position_ids"]
    tokenizer, judge = published(folder)
    texts = [
        "Who's there?",
        "Nay, answer me: stand, and unfold yourself.",
        "The bank of the river was steep.",
    ]
    for given_texts in (texts[:1], texts):
        read = tokenizer(given_texts, padding=True, return_tensors="pt")
        real = read["attention_mask"].bool()
        with torch.no_grad():
            wanted = judge(**read)
            hidden = model(read["input_ids"], read["token_type_ids"], real)
            assert (hidden - wanted.last_hidden_state)[real].abs().max() < 1e-4
            assert (model.pool(hidden) - wanted.pooler_output).abs().max() < 1e-4


# ---- heads ----------------------------------------------------------------------------------------------------------


def test_the_classifier_is_that_of_transformers_and_trains_the_bert():
    judge = theirs(published_bert.BertForSequenceClassification, num_labels=5)
    bert = BertModel(V, D, H, WIDE, LAYERS, max_length=LONGEST)
    left = load_pretrained(bert, judge.state_dict())
    assert [name for name in left if "position_ids" not in name] == ["classifier.bias", "classifier.weight"]
    model = SequenceClassifier(bert, 5).eval()
    model.classifier.load_state_dict(judge.classifier.state_dict())
    ids, segments, real = batch()
    logits = model(ids, segments, real)
    wanted = judge(ids, token_type_ids=segments, attention_mask=real.long()).logits
    assert torch.allclose(logits, wanted, atol=1e-5)
    logits.sum().backward()
    assert all(p.grad is not None for name, p in model.named_parameters() if "positions" not in name)
    assert model.bert is bert


def test_the_masked_head_is_that_of_transformers():
    judge = theirs(published_bert.BertForMaskedLM)
    judge.tie_weights()
    bert = ours(
        {
            **judge.bert.state_dict(),
            "pooler.dense.weight": torch.zeros(D, D),
            "pooler.dense.bias": torch.zeros(D),
        }
    )
    model = MaskedLanguageModel(bert).eval()
    head = judge.cls.predictions
    model.dense.load_state_dict(head.transform.dense.state_dict())
    model.norm.load_state_dict(head.transform.LayerNorm.state_dict())
    model.bias.data.copy_(head.bias)
    ids, _, real = batch()
    with torch.no_grad():
        wanted = judge(ids, attention_mask=real.long()).logits
        assert torch.allclose(model(ids, real, real), wanted[real], atol=1e-4)


def test_scores_count_what_is_asked_and_nothing_else():
    model = MaskedLanguageModel(BertModel(V, D, H, WIDE, LAYERS, dropout=0.5)).train()
    ids = torch.randint(V, (B, T))
    labels = torch.full((B, T), IGNORE)
    labels[0, 2] = ids[0, 2]
    loss, right = masked_scores(model, ids, labels)
    assert model.training
    assert right in (0.0, 1.0)
    assert abs(loss - math.log(V)) < 1.0
    model.eval()
    assert abs(masked_loss(model, ids, labels).item() - loss) < 1e-6


def test_a_gap_is_filled_with_the_likeliest_words_in_order():
    model = MaskedLanguageModel(BertModel(V, D, H, WIDE, LAYERS))
    model.bias.data[5], model.bias.data[9] = 8.0, 6.0
    found = fill(model, [1, 4, 2], mask_id=4, most=3)
    assert [token for token, _ in found[:2]] == [5, 9]
    assert found[0][1] > found[1][1] > found[2][1]

"""Unit 19's library against PyTorch's operators and ``transformers``' ViT, and by properties."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from transformers import ViTConfig, ViTForImageClassification

from scratch.patches import PatchEmbedding, interpolate_positions, patchify, unpatchify
from scratch.vit import ViT, attention_rollout

sizes = st.integers(1, 4)


@given(sizes, sizes, sizes, sizes, sizes)
def test_patches_are_those_of_unfold_and_go_back(batch, channels, rows, columns, patch):
    images = torch.randn(batch, channels, rows * patch, columns * patch)
    patches = patchify(images, patch)
    torch.testing.assert_close(patches, F.unfold(images, patch, stride=patch).transpose(1, 2))
    assert torch.equal(unpatchify(patches, patch, (rows, columns)), images)


def test_the_example_in_the_exercise_holds():
    image = torch.tensor([[[[1, 2, 3, 4], [5, 6, 7, 8]]]])
    assert patchify(image, 2).tolist() == [[[1, 2, 5, 6], [3, 4, 7, 8]]]


@pytest.mark.parametrize(("height", "width"), [(5, 4), (4, 5)])
def test_what_does_not_divide_is_refused(height, width):
    with pytest.raises(ValueError, match=f"{height} by {width} pixels"):
        patchify(torch.zeros(1, 3, height, width), 2)


@pytest.mark.parametrize(("count", "width"), [(5, 12), (6, 10)])
def test_what_is_no_grid_of_patches_is_refused(count, width):
    with pytest.raises(ValueError, match=f"{count} patches of {width} numbers"):
        unpatchify(torch.zeros(1, count, width), 2, (2, 3))


def test_the_embedding_is_a_convolution():
    embed = PatchEmbedding(2, 3, 5)
    images = torch.randn(4, 3, 6, 8)
    kernel = embed.projection.weight.view(5, 3, 2, 2)
    maps = F.conv2d(images, kernel, embed.projection.bias, stride=2)
    torch.testing.assert_close(embed(images), maps.flatten(2).transpose(1, 2))


def theirs(model: ViT, **options) -> ViTForImageClassification:
    """transformers' ViT with the weights of ours."""
    layers, first = model.encoder.layers, model.encoder.layers[0]
    patch = model.patches.patch
    width, numbers = model.patches.projection.weight.shape
    config = ViTConfig(
        hidden_size=width, num_hidden_layers=len(layers), num_attention_heads=first.attention.heads,
        intermediate_size=len(first.feed_forward.hidden.bias), image_size=model.image_size, patch_size=patch,
        num_channels=numbers // patch**2, num_labels=len(model.head.bias), attn_implementation="eager", **options,
    )  # fmt: skip
    made = ViTForImageClassification(config).eval()
    embeddings = made.vit.embeddings
    embeddings.cls_token.data = model.class_token.data[None, None]
    embeddings.position_embeddings.data = model.positions.weight.data[None]
    pairs = [
        (embeddings.patch_embeddings.projection, model.patches.projection),
        (made.vit.layernorm, model.encoder.norm),
    ]
    pairs += [(made.classifier, model.head)]
    for their, our in zip(made.vit.layers, layers, strict=True):
        pairs += [
            (getattr(their.attention, f"{n[0]}_proj"), getattr(our.attention, n))
            for n in ("query", "key", "value")
        ]
        pairs += [(their.attention.o_proj, our.attention.output), (their.mlp.fc1, our.feed_forward.hidden)]
        pairs += [
            (their.mlp.fc2, our.feed_forward.output),
            (their.layernorm_before, our.attention_residual.norm),
        ]
        pairs += [(their.layernorm_after, our.feed_forward_residual.norm)]
    for their, our in pairs:
        their.weight.data, their.bias.data = our.weight.data.view(their.weight.shape), our.bias.data
    return made


@pytest.mark.parametrize("eps", [1e-5, 1e-12])
def test_it_agrees_with_transformers_on_shared_weights(eps):
    torch.manual_seed(0)
    model = ViT((4, 6), 2, 3, 7, 12, 3, 20, 3).eval()
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    images = torch.randn(5, 3, 4, 6)
    with torch.no_grad():
        out = theirs(model, layer_norm_eps=eps)(images, output_attentions=True)
        torch.testing.assert_close(model(images), out.logits, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(
            model.attentions(images), torch.stack(out.attentions, dim=1), atol=1e-4, rtol=1e-4
        )


def test_it_is_vit_base_by_default():
    with torch.device("meta"):
        model = ViT()
    assert sum(parameter.numel() for parameter in model.parameters()) == 86_567_656


def test_images_of_another_size_are_refused_also_if_they_have_as_many_patches():
    with pytest.raises(ValueError, match=r"\(4, 6\) pixels, not \(6, 4\)"):
        ViT((4, 6), 2, 3, 7, 12, 3, 20, 1)(torch.zeros(1, 3, 6, 4))


def test_interpolated_positions_are_those_of_transformers():
    config = ViTConfig(hidden_size=6, image_size=8, patch_size=2, num_attention_heads=2)
    embeddings = ViTForImageClassification(config).vit.embeddings
    positions = torch.randn(17, 6)
    embeddings.position_embeddings.data = positions[None]
    expected = embeddings.interpolate_pos_encoding(torch.zeros(1, 16, 6), 6, 10)[0]
    torch.testing.assert_close(interpolate_positions(positions, (4, 4), (3, 5)), expected)


@given(sizes, sizes)
def test_positions_of_the_same_grid_stay(rows, columns):
    positions = torch.randn(1 + rows * columns, 3)
    torch.testing.assert_close(interpolate_positions(positions, (rows, columns), (rows, columns)), positions)


def test_positions_for_another_grid_are_refused():
    with pytest.raises(ValueError, match="do not have 6 positions"):
        interpolate_positions(torch.zeros(6, 3), (2, 3), (4, 4))


@given(st.lists(sizes, max_size=2), sizes, sizes, sizes)
def test_rows_of_a_rollout_sum_to_one(batch, layers, heads, size):
    weights = torch.randn(*batch, layers, heads, size, size).softmax(-1)
    rollout = attention_rollout(weights)
    assert rollout.shape == (*batch, size, size)
    torch.testing.assert_close(rollout.sum(-1), torch.ones(*batch, size))


def test_the_rollout_in_the_exercise_holds():
    weights = torch.tensor([[0.0, 1.0], [0.0, 1.0]]).expand(2, 1, 2, 2)
    torch.testing.assert_close(attention_rollout(weights), torch.tensor([[0.25, 0.75], [0.0, 1.0]]))


def test_a_rollout_is_a_share_passed_down_from_the_top():
    weights = torch.randn(3, 2, 5, 5).softmax(-1)
    share = torch.eye(5)[0]
    for layer in weights.mean(1).flip(0):
        share = (share + share @ layer) / 2
    torch.testing.assert_close(attention_rollout(weights)[0], share)

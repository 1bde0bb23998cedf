"""One set of weights in four frameworks: the course's own Transformer, Keras, TensorFlow and PyTorch (unit 15).

The weights' names are those of ``scratch.transformer.Transformer``; in between they are NumPy arrays by name.
Post-norm models.
"""

from collections.abc import Mapping

import keras
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call

from scratch.attention import causal_mask
from scratch.backend import has_tensorflow
from scratch.keras_transformer import Transformer as KerasTransformer
from scratch.transformer import Transformer

Weights = Mapping[str, np.ndarray]
# Where sub-layers of the course's model stand in Keras's and in PyTorch's; norms are numbered there in their order.
KERAS = {
    "attention": "attention",
    "self_attention": "self_attention.attention",
    "cross_attention": "cross_attention",
    "attention_residual.norm": "attention_norm",
    "self_attention_residual.norm": "self_attention.norm",
    "cross_attention_residual.norm": "cross_attention_norm",
    "feed_forward_residual.norm": "feed_forward_norm",
}
TORCH = {
    "attention": "self_attn",
    "self_attention": "self_attn",
    "cross_attention": "multihead_attn",
    "feed_forward.hidden": "linear1",
    "feed_forward.output": "linear2",
    "attention_residual.norm": "norm1",
    "self_attention_residual.norm": "norm1",
    "cross_attention_residual.norm": "norm2",
}


def numbers(model: Transformer) -> dict[str, np.ndarray]:
    """Return the weights of the course's own model, by name, as arrays."""
    return {name: value.numpy().copy() for name, value in model.state_dict().items()}


def to_keras(weights: Weights, model: KerasTransformer) -> None:
    """Give a Keras model these weights.

    A linear map is (out, in) here and (in, out) in Keras; an attention's maps are there cut into heads: (D, H, K)
    for query, key and value, (H, K, D) for the output.
    """
    model.embedding.embedding.set_weights([weights["embedding.weight"]])
    for side, layers in (("encoder", model.encoder), ("decoder", model.decoder)):
        for i, layer in enumerate(layers):
            _fill_layer(layer, _within(f"{side}.layers.{i}.", weights))


def _within(prefix: str, weights: Weights) -> dict[str, np.ndarray]:
    """The weights whose names begin so, by the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def _arrays(layer) -> list[np.ndarray]:
    """The weights of a Keras layer, in the order in which they were made."""
    return [keras.ops.convert_to_numpy(variable) for variable in layer.weights]


def _fill_layer(layer, weights: Weights) -> None:
    for name, place in KERAS.items():
        if not (own := _within(f"{name}.", weights)):
            continue
        part = layer
        for step in place.split("."):
            part = getattr(part, step)
        if "weight" in own:  # a norm
            part.set_weights([own["weight"], own["bias"]])
            continue
        heads, width = part.num_heads, part.key_dim
        arrays = []
        for which in ("query", "key", "value"):
            arrays += [
                own[f"{which}.weight"].T.reshape(-1, heads, width),
                own[f"{which}.bias"].reshape(heads, width),
            ]
        part.set_weights([*arrays, own["output.weight"].T.reshape(heads, width, -1), own["output.bias"]])
    inner = _within("feed_forward.", weights)
    arrays = [inner["hidden.weight"].T, inner["hidden.bias"], inner["output.weight"].T, inner["output.bias"]]
    layer.feed_forward.set_weights(arrays)


def from_keras(model: KerasTransformer) -> dict[str, np.ndarray]:
    """Return the weights of a Keras model under the names of the course's own: the inverse of ``to_keras``."""
    weights = {"embedding.weight": _arrays(model.embedding.embedding)[0]}
    for side, layers in (("encoder", model.encoder), ("decoder", model.decoder)):
        for i, layer in enumerate(layers):
            weights |= {f"{side}.layers.{i}.{name}": value for name, value in _read_layer(layer).items()}
    return weights


def _read_layer(layer) -> dict[str, np.ndarray]:
    weights: dict[str, np.ndarray] = {}
    for name, place in KERAS.items():
        part = layer
        for step in place.split("."):
            part = getattr(part, step, None)
        if part is None or (name == "attention" and hasattr(layer, "cross_attention")):
            continue
        arrays = _arrays(part)
        if len(arrays) == 2:  # a norm
            weights |= {f"{name}.weight": arrays[0], f"{name}.bias": arrays[1]}
            continue
        width = arrays[0].shape[0]
        for which, kernel, bias in zip(("query", "key", "value"), arrays[0:6:2], arrays[1:6:2], strict=True):
            weights |= {
                f"{name}.{which}.weight": kernel.reshape(width, -1).T,
                f"{name}.{which}.bias": bias.ravel(),
            }
        weights |= {f"{name}.output.weight": arrays[6].reshape(-1, width).T, f"{name}.output.bias": arrays[7]}
    hidden, hidden_bias, out, out_bias = _arrays(layer.feed_forward)
    inner = {
        "hidden.weight": hidden.T,
        "hidden.bias": hidden_bias,
        "output.weight": out.T,
        "output.bias": out_bias,
    }
    return weights | {f"feed_forward.{name}": value for name, value in inner.items()}


def to_torch(weights: Weights) -> dict[str, Tensor]:
    """Return the weights of the two stacks under the names of ``nn.Transformer``.

    There query, key and value of an attention lie in one matrix, in this order, and norms are numbered.
    """
    renamed = {}
    for name, value in weights.items():
        if name == "embedding.weight":
            continue
        side, stack, i, rest = name.split(".", 3)
        sublayer, kind = rest.rsplit(".", 1)
        attention, _, part = sublayer.rpartition(".")
        place = f"{side}.{stack}.{i}."
        if part == "query":
            parts = [weights[f"{place}{attention}.{which}.{kind}"] for which in ("query", "key", "value")]
            renamed[f"{place}{TORCH[attention]}.in_proj_{kind}"] = np.concatenate(parts)
        elif attention in TORCH and part == "output":
            renamed[f"{place}{TORCH[attention]}.out_proj.{kind}"] = value
        elif sublayer == "feed_forward_residual.norm":
            renamed[f"{place}{'norm2' if side == 'encoder' else 'norm3'}.{kind}"] = value
        elif sublayer in TORCH:
            renamed[f"{place}{TORCH[sublayer]}.{kind}"] = value
    return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in renamed.items()}


@torch.no_grad()
def torch_logits(
    weights: Weights, heads: int, source: Int[Tensor, "B S"], target: Int[Tensor, "B T"], pad: int = 0
) -> Float[Tensor, "B T V"]:
    """Score with ``nn.Transformer`` on these weights, between embeddings and logits of one table."""
    size = {name: value.shape for name, value in weights.items()}
    count = 1 + max(int(name.split(".")[2]) for name in weights if name.startswith("encoder.layers."))
    d_model, d_ff = size["embedding.weight"][1], size["encoder.layers.0.feed_forward.hidden.bias"][0]
    kinds = nn.TransformerEncoderLayer, nn.TransformerDecoderLayer
    ends = [kind(d_model, heads, d_ff, dropout=0.0, batch_first=True) for kind in kinds]
    encoder = nn.TransformerEncoder(ends[0], count, enable_nested_tensor=False)
    core = nn.Transformer(
        d_model,
        heads,
        batch_first=True,
        custom_encoder=encoder,
        custom_decoder=nn.TransformerDecoder(ends[1], count),
    )
    small = Transformer(size["embedding.weight"][0], d_model, heads, d_ff, 0, dropout=0.0, pad=pad)
    small.embedding.weight.copy_(torch.from_numpy(weights["embedding.weight"]))
    masks = {
        "tgt_mask": ~causal_mask(target.shape[1]),
        "src_key_padding_mask": source == pad,
        "tgt_key_padding_mask": target == pad,
        "memory_key_padding_mask": source == pad,
    }
    x = functional_call(core, to_torch(weights), (small.embed(source), small.embed(target)), masks)
    return x @ small.embedding.weight.T


def all_logits(
    weights: Weights, heads: int, keras_model: KerasTransformer, source: np.ndarray, target: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the logits (B, T, V) of every framework that is installed, on the same weights.

    Args:
        weights: as ``numbers`` or ``from_keras`` returns them; the Keras model's own are overwritten by them.
        heads: H.
        keras_model: a Keras Transformer of these sizes.
        source: (B, S), ids.
        target: (B, T), ids.
    """
    size = {name: value.shape for name, value in weights.items()}
    count = 1 + max(int(name.split(".")[2]) for name in weights if name.startswith("encoder.layers."))
    inner = size["encoder.layers.0.feed_forward.hidden.bias"][0]
    own = Transformer(*size["embedding.weight"], heads, inner, count, dropout=0.0).eval()
    own.load_state_dict(
        {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in weights.items()}
    )
    to_keras(weights, keras_model)
    pair = torch.from_numpy(source), torch.from_numpy(target)
    with torch.no_grad():
        found = {"scratch": own(*pair).numpy(), "nn.Transformer": torch_logits(weights, heads, *pair).numpy()}
    found[f"Keras ({keras.backend.backend()})"] = keras.ops.convert_to_numpy(keras_model((source, target)))
    if has_tensorflow():
        from scratch.tensorflow_transformer import Transformer as PlainTensorFlow

        found["TensorFlow"] = PlainTensorFlow(weights, heads)(source, target).numpy()
    return found

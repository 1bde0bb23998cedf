"""Checks of unit 19, second half: the Vision Transformer, and what its attention adds up to.

The judge is ``transformers``' ViT on the same weights, with the course's eps; it is imported where it is first needed.
Images have three channels and are never square. What is worked out by hand below names the mistake where an answer is
another.
"""

import functools

import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call

from proctor import expect

DOUBLE = torch.float64
H, K, WIDE, CLASSES, C = (
    2,
    3,
    7,
    5,
    3,
)  # heads, the width of each, of the feed-forward nets; classes; channels
D = H * K
THEIRS = {
    "attention.query": "attention.q_proj",
    "attention.key": "attention.k_proj",
    "attention.value": "attention.v_proj",
    "attention.output": "attention.o_proj",
    "feed_forward.hidden": "mlp.fc1",
    "feed_forward.output": "mlp.fc2",
    "attention_residual.norm": "layernorm_before",
    "feed_forward_residual.norm": "layernorm_after",
}


# ---- weights, and transformers' ViT on them -------------------------------------------------------------------------


def shapes(N, P, layers):
    """Names and shapes of a ViT's parameters."""
    found = {"class_token": (D,), "positions.weight": (1 + N, D)}

    def linear(name, inputs, outputs):
        found.update({f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)})

    linear("patches.projection", C * P * P, D)
    for i in range(layers):
        for part in ("query", "key", "value", "output"):
            linear(f"encoder.layers.{i}.attention.{part}", D, D)
        linear(f"encoder.layers.{i}.feed_forward.hidden", D, WIDE)
        linear(f"encoder.layers.{i}.feed_forward.output", WIDE, D)
        for part in ("attention_residual", "feed_forward_residual"):
            found |= {f"encoder.layers.{i}.{part}.norm.{kind}": (D,) for kind in ("weight", "bias")}
    found |= {"encoder.norm.weight": (D,), "encoder.norm.bias": (D,)}
    linear("head", D, CLASSES)
    return found


def drawn(rng, named, dtype=torch.float32):
    """Random weights: matrices that keep sizes, positions and a class token that count, norms away from one."""
    weights = {}
    for name, shape in named.items():
        scale = shape[1] ** -0.5 if len(shape) == 2 and name != "positions.weight" else 0.6
        weights[name] = rng.tensor(*shape, scale=scale, dtype=dtype)
        if name.endswith("norm.weight"):
            weights[name] = weights[name] + 0.5 * weights[name].sign()
        if ".query." in name or ".key." in name:  # so that attention has something to say
            weights[name] = 2.5 * weights[name]
    return weights


def as_theirs(weights):
    """The same weights under the names of transformers' ViTForImageClassification."""
    P = int((weights["patches.projection.weight"].shape[1] // C) ** 0.5)
    state = {
        "vit.embeddings.cls_token": weights["class_token"][None, None],
        "vit.embeddings.position_embeddings": weights["positions.weight"][None],
        "vit.embeddings.patch_embeddings.projection.weight": weights["patches.projection.weight"].view(
            D, C, P, P
        ),
        "vit.embeddings.patch_embeddings.projection.bias": weights["patches.projection.bias"],
    }
    for name, weight in weights.items():
        if name.startswith("encoder.layers."):
            part = name.removeprefix("encoder.layers.")
            for ours, theirs in THEIRS.items():
                part = part.replace(ours, theirs)
            state[f"vit.layers.{part}"] = weight
    for kind in ("weight", "bias"):
        state[f"vit.layernorm.{kind}"] = weights[f"encoder.norm.{kind}"]
        state[f"classifier.{kind}"] = weights[f"head.{kind}"]
    return state


@functools.cache
def library():
    """transformers' ViT: it takes seconds to import, and only the checks of one exercise need it."""
    from transformers import ViTConfig, ViTForImageClassification

    return ViTConfig, ViTForImageClassification


@functools.cache
def their_model(size, P, layers):
    """transformers' model of this size, in float64, without weights of its own that matter."""
    config, model = library()
    made = model(
        config(
            hidden_size=D, num_hidden_layers=layers, num_attention_heads=H, intermediate_size=WIDE, image_size=size,
            patch_size=P, num_channels=C, num_labels=CLASSES, layer_norm_eps=1e-5, attn_implementation="eager",
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        )
    )  # fmt: skip
    return made.double().eval()


def theirs(weights, images, P, layers):
    """Logits and attention weights (B, L, H, T, T) of transformers' ViT on these weights, in float64."""
    model = their_model(tuple(images.shape[-2:]), P, layers)
    named = {name: w.double() for name, w in as_theirs(weights).items()}
    out = functional_call(model, named, (images.double(),), {"output_attentions": True})
    return out.logits, torch.stack(out.attentions, dim=1)


# ---- the same by hand, with its mistakes ----------------------------------------------------------------------------


def cut(images, P):
    """The patches (B, N, C·P·P), as they should be."""
    return F.unfold(images, P, stride=P).transpose(1, 2)


def joined(patches, P, grid):
    """Images from patches."""
    return F.fold(patches.transpose(1, 2), (grid[0] * P, grid[1] * P), P, stride=P)


class ByHand:
    """A ViT on given weights, in float64, whose steps can be taken in any wrong way."""

    def __init__(self, weights, P, layers):
        self.w = {name: weight.double() for name, weight in weights.items()}
        self.P, self.layers = P, layers

    def linear(self, name, x):
        return F.linear(x, self.w[f"{name}.weight"], self.w[f"{name}.bias"])

    def norm(self, name, x):
        return F.layer_norm(x, (D,), self.w[f"{name}.weight"], self.w[f"{name}.bias"])

    def embed(self, images, wrong=""):
        images, position = images.double(), self.w["positions.weight"]
        P, (rows, columns) = self.P, (n // self.P for n in images.shape[-2:])
        if wrong == "normalised":
            images = (images - images.mean()) / images.std()
        images = 2 * images - 1 if wrong == "from -1 to 1" else images
        patches = cut(images, P)
        block = images.reshape(len(images), C, rows, P, columns, P)
        if wrong == "column by column":
            patches = block.permute(0, 4, 2, 1, 3, 5).reshape(patches.shape)
        if wrong == "channels last":
            patches = block.permute(0, 2, 4, 3, 5, 1).reshape(patches.shape)
        if wrong == "turned patches":
            patches = block.permute(0, 2, 4, 1, 5, 3).reshape(patches.shape)
        if wrong == "only reshaped":
            patches = images.reshape(patches.shape)
        x = self.linear("patches.projection", patches)
        token = self.w["class_token"].expand(len(x), 1, -1)
        if wrong == "scaled":
            x = x * D**0.5
        if wrong == "everything scaled":
            x, token = x * D**0.5, token * D**0.5
        first = torch.cat([token, x], dim=1)
        last = torch.cat([x, token], dim=1)
        return {
            "last": lambda: last + position,
            "last with its position": lambda: torch.cat([x + position[1:], token + position[0]], dim=1),
            "positions first": lambda: torch.cat([token, x + position[1:]], dim=1),
            "positions first, from 0": lambda: torch.cat([token, x + position[:-1]], dim=1),
            "no positions": lambda: first,
            "positions twice": lambda: first + 2 * position,
            "positions only": lambda: position.expand(len(x), -1, -1),
            "positions multiplied": lambda: first * position,
            "positions reversed": lambda: first + position.flip(0),
            "no token": lambda: x + position[1:],
            "no token, positions from 0": lambda: x + position[:-1],
            "twice": lambda: torch.cat([token, first], dim=1) + torch.cat([position[:1], position]),
            "twice, behind": lambda: torch.cat([token + position[0], first + position], dim=1),
            "twice, bare": lambda: torch.cat([token, first + position], dim=1),
            "both ends": lambda: torch.cat([first + position, token], dim=1),
            "in place": lambda: torch.cat([token, x[:, 1:]], dim=1) + position[:-1],
            "added": lambda: torch.cat([token, x + token], dim=1) + position,
            "zero token": lambda: torch.cat([0 * token, x], dim=1) + position,
            "mean token": lambda: torch.cat([x.mean(1, keepdim=True), x], dim=1) + position,
            "first image": lambda: torch.cat([token, x[:1].expand_as(x)], dim=1) + position,
        }.get(wrong, lambda: first + position)()

    def encode(self, x, wrong="", bend=F.gelu):
        """The stack, its attention weights, and what goes into its last norm."""
        found, order = [], range(self.layers)
        order = reversed(order) if wrong == "top to bottom" else order
        order = [0] * self.layers if wrong == "one layer" else order
        heads = {"one head": 1, "narrow heads": D}.get(wrong, H)
        for i in order:
            if wrong == "positions in every layer" and i:
                x = x + self.w["positions.weight"]
            name = f"encoder.layers.{i}."
            norms = [name + "attention_residual.norm", name + "feed_forward_residual.norm"]

            def attend(seen, name=name):
                query, key, value = (
                    self.linear(f"{name}attention.{part}", seen).unflatten(-1, (heads, -1)).transpose(1, 2)
                    for part in ("query", "key", "value")
                )
                scores = query @ key.mT / key.shape[-1] ** 0.5
                if wrong == "causal":
                    scores = scores.masked_fill(~torch.ones(scores.shape[-2:]).tril().bool(), -torch.inf)
                if wrong == "class token hidden":
                    scores = scores.masked_fill(torch.arange(scores.shape[-1]) == 0, -torch.inf)
                found.append(scores.softmax(-1))
                return self.linear(f"{name}attention.output", (found[-1] @ value).transpose(1, 2).flatten(2))

            def think(seen, name=name):
                return self.linear(
                    f"{name}feed_forward.output", bend(self.linear(f"{name}feed_forward.hidden", seen))
                )

            sublayers = (attend,) if wrong == "no net" else (attend, think)
            for norm, sublayer in zip(norms, sublayers, strict=False):
                x = (
                    self.norm(norm, x + sublayer(x))
                    if wrong == "post-norm"
                    else x + sublayer(self.norm(norm, x))
                )
        return x, torch.stack(found, dim=1)

    def logits(self, images, wrong="", bend=F.gelu):
        x = self.embed(images, wrong)
        if wrong == "no encoder":
            return self.linear("head", x[:, 0])
        x, _ = self.encode(x, wrong, bend)
        if wrong == "encoder twice":
            x, _ = self.encode(self.norm("encoder.norm", x))
        if wrong == "no last norm":
            return self.linear("head", x[:, 0])
        if wrong == "pooled, then normed":
            return self.linear("head", self.norm("encoder.norm", x.mean(1)))
        x = self.norm("encoder.norm", x)
        if wrong == "normed twice":
            x = self.norm("encoder.norm", x)
        if wrong == "plain norm":
            x = F.layer_norm(x, (D,))
        row = {
            "mean": lambda: x.mean(1),
            "mean of patches": lambda: x[:, 1:].mean(1),
            "largest": lambda: x.amax(1),
            "sum": lambda: x.sum(1),
            "last row": lambda: x[:, -1],
            "row 1": lambda: x[:, 1],
            "half": lambda: (x[:, 0] + x[:, 1:].mean(1)) / 2,
            "all rows": lambda: x,
            "kept": lambda: x[:, :1],
            "tanh": lambda: x[:, 0].tanh(),
            "skip": lambda: x[:, 0] + self.w["class_token"],
            "last": lambda: x[:, -1],
            "last, read at 0": lambda: x[:, 0],
        }.get(wrong, lambda: x[:, 0])()
        out = self.linear("head", row)
        ends = {"softmax": out.softmax(-1), "log-softmax": out.log_softmax(-1), "sigmoid": out.sigmoid()}
        return ends.get(wrong, out)


EMBEDDED = {
    "last": "a class token behind the patches: it comes in front, at position 0",
    "last with its position": "a class token behind the patches, though with position 0: it comes in front",
    "positions first": "positions that were added before the class token came: it has a position too, row 0 of them",
    "positions first, from 0": "positions that were added before the class token came: patches have those from 0 on",
    "no positions": "rows without positions",
    "positions twice": "rows to which the positions were added twice",
    "positions only": "positions alone: they are added to the rows",
    "positions multiplied": "rows times positions: they are added",
    "positions reversed": "positions from the last to the first",
    "no token": "the patches alone: the class token is missing",
    "no token, positions from 0": "the patches alone, with the positions from 0 on: the class token is missing",
    "twice": "two class tokens: put it in front once",
    "twice, behind": "two class tokens: put it in front once.",
    "twice, bare": "two class tokens, one of them without a position: put it in front once",
    "both ends": "a class token at both ends: put it in front once",
    "in place": "the class token in place of the first patch: it is a row more",
    "added": "the class token added to every patch: it is a row of its own",
    "zero token": "zeros for the class token: it is the parameter `class_token`",
    "mean token": "the mean of the patches for the class token: it is the parameter `class_token`",
    "first image": "the patches of the first image for all images",
    "scaled": "patches times √D: a looked-up embedding is scaled in the Transformer, a patch is not",
    "everything scaled": "all rows times √D: a looked-up embedding is scaled in the Transformer, a patch is not",
    "column by column": "the patches column by column: look at patchify",
    "channels last": "patches with their channels last: look at patchify",
    "turned patches": "patches whose pixels come column by column: look at patchify",
    "only reshaped": "patches that are runs of the image's numbers: look at patchify",
    "normalised": "images normalised in the model: they are taken as they come, or they are normalised twice",
    "from -1 to 1": "images brought to [-1, 1] in the model: they are taken as they come, or they are normalised twice",
}
READ = {
    "mean": "the mean of all rows: what is read off is the class token's row, row 0",
    "mean of patches": "the mean of the patches' rows: what is read off is the class token's row, row 0",
    "pooled, then normed": "the mean of all rows, normed afterwards: what is read off is the class token's row",
    "largest": "the largest of all rows, feature by feature: what is read off is the class token's row",
    "sum": "the sum of all rows: what is read off is the class token's row",
    "last row": "the last row, that of the last patch: the class token's is row 0",
    "half": "the class token's row and the patches' mean, half of each: row 0 alone is read off",
    "no encoder": "the embedded class token, the same for all images: the encoder is missing",
    "encoder twice": "an encoder that was run twice",
    "row 1": "row 1, that of the first patch: the class token's is row 0",
    "all rows": "scores for every row: the class token's alone is read off",
    "kept": "scores of shape (B, 1, classes): take row 0, not a slice of one row",
    "tanh": "a tanh before the head, as BERT's pooler has it: a ViT's head is one linear map",
    "skip": "the class token added again before the head",
    "softmax": "probabilities: the head's scores go out as they are, the softmax is the loss's",
    "log-softmax": "logarithms of probabilities: the head's scores go out as they are",
    "sigmoid": "a sigmoid of the scores: they go out as they are",
    "no last norm": "a stack without its last norm: use the encoder as a whole, `self.encoder(x)`",
    "normed twice": "a second last norm: the pre-norm encoder ends in one already",
    "plain norm": "a second norm, without weights: the pre-norm encoder ends in one already",
    "post-norm": "a post-norm encoder: a ViT is pre-norm, and pre-norm is `norm_first=True`",
    "causal": "a causal mask: an image has no future, every patch sees every other",
    "class token hidden": "a mask that hides the class token: nothing is masked",
    "positions in every layer": "positions added again before later layers: once is enough",
    "top to bottom": "the layers from the last to the first",
    "one layer": "the first layer again and again: each layer is another one",
    "one head": "attention with one head",
    "narrow heads": "attention with as many heads as features",
}
BENT = {
    "a ReLU in the feed-forward nets, as in the Transformer: a ViT has a GELU": torch.relu,
    "the approximate GELU, with a tanh: the docstring says the exact one": functools.partial(
        F.gelu, approximate="tanh"
    ),
    "a SiLU in the feed-forward nets: a ViT has a GELU": F.silu,
    "feed-forward nets without a bend: a ViT has a GELU": lambda x: x,
    "the approximate GELU with a sigmoid: the docstring says the exact one": lambda x: (
        x * (1.702 * x).sigmoid()
    ),
}


def setting(rng):
    """Batch, rows, columns and patch side: rows and columns differ."""
    B, rows, columns = (int(n) for n in rng.permutation([2, 3, 4])[:3])
    return B, rows, columns, int(rng.choice([2, 3]))


def within_images(B, rows, columns):
    """Each of the rows of an image depends on all patches of that image, (B, rows, B, columns)."""
    allowed = torch.zeros(B, rows, B, columns, dtype=torch.bool)
    for b in range(B):
        allowed[b, :, b] = True
    return allowed


def reaches(function, patches, allowed, ask):
    """``expect.reaches``, in the words of patches."""
    try:
        expect.reaches(function, patches, allowed)
    except expect.Unmet as error:
        text = (
            str(error)
            .replace(" x[", " patch [")
            .replace("which the mask forbids", "which does not belong there")
        )
        text = text.replace("which belongs to another sequence", "which belongs to another image")
        text = text.replace(", which it may attend to", "")
        lines = text.splitlines()
        if "Where do the two meet" in text or "Is the mask" in text:
            lines[-1] = f"Ask       {ask}"
        raise expect.Unmet("\n".join(lines)) from None


@pytest.mark.exercise("ViT")
class TestViT:
    ASK = (
        "Sub-modules `patches`, `positions`, `encoder` (pre-norm: norm_first=True) and `head`, and the parameter "
        "`class_token`: which sizes does each get?"
    )

    def model(self, student, rng, grid, P, layers=2, dtype=torch.float32, **options):
        """The learner's model with weights that we have drawn, ready for evaluation, and these weights."""
        size = (grid[0] * P, grid[1] * P)
        m = student.ViT(size, P, C, CLASSES, D, H, WIDE, layers, **options)
        named = shapes(grid[0] * grid[1], P, layers)
        expect.parameters(m, named, ask=self.ASK)
        weights = drawn(rng, named, dtype)
        m = m.double() if dtype == DOUBLE else m
        m.load_state_dict(weights, strict=False)  # a buffer of the learner's own may keep what it holds
        m.eval()
        return m, weights

    @pytest.mark.points(1)
    def test_parameters(self, student, rng):
        """owns its parts under the names of the docstring, with a position for every patch and the class token"""
        _, rows, columns, P = setting(rng)
        self.model(student, rng, (rows, columns), P, layers=int(rng.integers(1, 4)))

    @pytest.mark.points(2)
    @pytest.mark.needs("test_parameters")
    def test_embeds(self, student, rng):
        """puts the class token in front of the patches and adds a position to every row"""
        B, rows, columns, P = setting(rng)
        m, weights = self.model(student, rng, (rows, columns), P)
        images, hand = rng.tensor(B, C, rows * P, columns * P), ByHand(weights, P, 2)
        expect.close(
            m.embed(images),
            hand.embed(images).float(),
            what="the embedded images",
            ask="Patches, class token in front, positions on all 1 + N rows: in which order?",
            mistakes=lambda: {
                says: lambda w=w: hand.embed(images, w).float() for w, says in EMBEDDED.items()
            },
        )

    @pytest.mark.points(4)
    @pytest.mark.needs("test_parameters")
    def test_agrees_with_transformers(self, student, rng):
        """scores the classes as the ViT of transformers does with the same weights"""
        B, rows, columns, P = setting(rng)
        layers = int(rng.integers(2, 4))
        m, weights = self.model(student, rng, (rows, columns), P, layers, dtype=DOUBLE)
        images = rng.tensor(B, C, rows * P, columns * P, dtype=DOUBLE)
        with torch.no_grad():
            expected, _ = theirs(weights, images, P, layers)
        hand = ByHand(weights, P, layers)

        def mistakes():
            wrongs = READ | {w: f"what comes of {says}" for w, says in EMBEDDED.items() if "twice," not in w}
            found = {
                says: lambda w=w: hand.logits(images, w) for w, says in wrongs.items() if "no token" not in w
            }
            return found | {
                says: lambda bend=bend: hand.logits(images, bend=bend) for says, bend in BENT.items()
            }

        ask = "Embed, encode without a mask, and which row does the head read? What do the nets bend with?"
        expect.close(m(images), expected, what="the scores", ask=ask, mistakes=mistakes, atol=2e-6, rtol=2e-5)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_agrees_with_transformers")
    def test_attentions(self, student, rng):
        """returns the weights of every head in every layer, those of the ViT of transformers"""
        B, rows, columns, P = setting(rng)
        m, weights = self.model(student, rng, (rows, columns), P, 3, dtype=DOUBLE)
        images = rng.tensor(B, C, rows * P, columns * P, dtype=DOUBLE)
        with torch.no_grad():
            _, expected = theirs(weights, images, P, 3)
        hand = ByHand(weights, P, 3)

        def mistakes():
            x, w = hand.embed(images), hand.w

            def looked(stream, normed=True, scale=K**0.5, keys="key", queries="query", end=True, split=True):
                """Weights of each layer on rows of the stream that were normed or not."""
                out = []
                for i, rows_ in enumerate(stream):
                    name = f"encoder.layers.{i}."
                    seen = hand.norm(name + "attention_residual.norm", rows_) if normed else rows_
                    query, key = (hand.linear(f"{name}attention.{part}", seen) for part in (queries, keys))
                    if split:
                        query, key = (y.unflatten(-1, (H, K)).transpose(1, 2) for y in (query, key))
                    else:
                        query, key = (y.reshape(len(y), H, -1, K) for y in (query, key))
                    scores = query @ key.mT / scale
                    out.append(scores.softmax(-1) if end else scores)
                return torch.stack(out, dim=1)

            stream, bare = [x], [x]
            for i in range(3):
                one = ByHand(self.only(w, i), P, 1)
                stream.append(one.encode(stream[-1])[0])
                bare.append(one.encode(bare[-1], "no net")[0])
            bare = bare[:-1]
            return {
                "scores before the softmax": looked(stream[:-1], end=False),
                "weights of rows that were not normed: pre-norm attention reads `attention_residual.norm(x)`": looked(
                    stream[:-1], normed=False
                ),
                "every layer's weights on what that layer returns: they belong to what it reads": looked(
                    stream[1:]
                ),
                "every layer's weights on the embeddings: each layer reads what the one below returned": looked(
                    [x] * 3
                ),
                "scores without a scale": looked(stream[:-1], scale=1.0),
                "scores divided by √D: a head is K wide": looked(stream[:-1], scale=D**0.5),
                "keys by keys: rows are queries": looked(stream[:-1], queries="key"),
                "queries by queries: columns are keys": looked(stream[:-1], keys="query"),
                "keys by queries: rows are queries": looked(stream[:-1], queries="key", keys="query"),
                "heads cut by a view without a transpose: use split_heads": looked(stream[:-1], split=False),
                "weights of a stack without its feed-forward nets: hand on what the whole layer returns": looked(
                    bare
                ),
                "the heads in another order": expected.flip(2),
                "the mean over the heads: every head's weights are asked for": expected.mean(2),
                "the layers in front, (L, B, H, T, T): the batch comes first": expected.transpose(0, 1),
                "the heads before the layers, (B, H, L, T, T)": expected.transpose(1, 2),
                "keys in rows, and queries in columns": expected.mT,
                "the layers from the last to the first": expected.flip(1),
                "the last layer's weights alone": expected[:, -1],
                "the last layer's weights alone.": expected[:, -1:],
                "the last layer's weights for all layers": expected[:, -1:].expand_as(expected),
                "all layers but the last": expected[:, :-1],
                "the first layer's weights for all layers": expected[:, :1].expand_as(expected),
                "the class token's row alone": expected[:, :, :, 0],
                "the patches' rows and columns alone: the class token's belong to them": expected[
                    ..., 1:, 1:
                ],
            }

        ask = "What does the attention of a pre-norm layer read, and what does the next layer read?"
        expect.close(m.attentions(images), expected, what="the attention weights", ask=ask, mistakes=mistakes,
                     atol=2e-6, rtol=2e-5)  # fmt: skip

    @staticmethod
    def only(weights, i):
        """The weights in which layer i is the only one."""
        mine = {n.replace(f"layers.{i}.", "layers.0."): w for n, w in weights.items() if f"layers.{i}." in n}
        return {name: w for name, w in weights.items() if "layers." not in name} | mine

    @pytest.mark.points(2)
    @pytest.mark.needs("test_parameters")
    def test_who_sees_what(self, student, rng):
        """embeds each patch from its own pixels; then every row sees every patch, and images do not mix"""
        (rows, columns), P, N = ((2, 3) if rng.integers(2) else (3, 2)), 2, 6
        m, _ = self.model(student, rng, (rows, columns), P)
        patches = rng.tensor(2, N, C * P * P)

        def embed(x):
            return m.embed(joined(x, P, (rows, columns)))

        own = torch.zeros(2, 1 + N, 2, N, dtype=torch.bool)
        for b in range(2):
            own[b, 1:, b] = torch.eye(N, dtype=torch.bool)
        reaches(
            embed, patches, own, "Row 0 is the class token's, row 1 + n that of patch n. What goes into each?"
        )
        ask = "Is something masked, or do images of a batch meet? Is `x` (B, T, D) when the encoder gets it?"
        reaches(lambda x: m.encoder(embed(x)), patches, within_images(2, 1 + N, N), ask)

        def scores(x):
            out = m(joined(x, P, (rows, columns)))
            expect.array(out, shape=(2, CLASSES), what="the scores")
            return out[:, None]

        reaches(scores, patches, within_images(2, 1, N), ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_transformers")
    def test_sizes(self, student, rng):
        """reads any size that it was made for, and raises a ValueError for any other, the turned one too"""
        for B, grid, P in ((1, (1, 4), 2), (2, (5, 1), 1), (3, (1, 1), 3)):
            m, weights = self.model(student, rng, grid, P, 1)
            images = rng.tensor(B, C, grid[0] * P, grid[1] * P)
            expected = ByHand(weights, P, 1).logits(images).float()
            what = f"the scores of {B} images of {grid[0]} by {grid[1]} patches"
            expect.close(m(images), expected, what=what, ask="Is any size fixed in your code?")
        for grid, other in (
            ((2, 3), (3, 2)),
            ((2, 6), (3, 4)),
            ((2, 3), (2, 2)),
            ((4, 3), (2, 3)),
            ((3, 2), (3, 4)),
        ):
            m, _ = self.model(student, rng, grid, 2, 1)
            images = rng.tensor(2, C, other[0] * 2, other[1] * 2)
            expect.raises(
                ValueError,
                lambda m=m, images=images: m(images),
                when=f"for images of {other[0] * 2} by {other[1] * 2} pixels in a model made for {grid[0] * 2} by "
                f"{grid[1] * 2}",
                ask="As many patches in another grid have positions too, those of other places. What do you compare?",
            )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_transformers")
    def test_dropout(self, student, rng):
        """applies dropout to the embeddings and in the encoder, in training alone"""
        _, rows, columns, P = setting(rng)
        ask = "Where does `dropout` go: to the embeddings with their positions, and to the encoder?"
        images = rng.tensor(2, C, rows * P, columns * P)
        m, weights = self.model(student, rng, (rows, columns), P, dropout=1.0)
        x, T = rng.tensor(2, 1 + rows * columns, D), 1 + rows * columns
        m.train()
        expect.close(
            m.embed(images),
            torch.zeros(2, T, D),
            what="the embedding, in training, with dropout=1.0,",
            ask=ask,
        )
        left = F.layer_norm(x, (D,), weights["encoder.norm.weight"], weights["encoder.norm.bias"])
        expect.close(
            m.encoder(x),
            left,
            what="the encoder's output, in training, with dropout=1.0,",
            ask=ask,
        )
        p = float(rng.choice([0.2, 0.4]))
        m, weights = self.model(student, rng, (rows, columns), P, dropout=p)
        hand = ByHand(weights, P, 2)
        images = rng.tensor(12, C, rows * P, columns * P)
        plain = hand.embed(images).float()
        expect.close(m.embed(images), plain, what="the embedding in evaluation", ask=ask)
        m.train()
        dropped = m.embed(images)
        expect.array(dropped, shape=tuple(plain.shape), dtype=torch.float32, what="the embedding in training")
        kept = dropped != 0
        expect.close(
            dropped[kept], plain[kept] / (1 - p), what=f"what dropout={p} keeps of the embedding,", ask=ask
        )
        share, count = float((~kept).double().mean()), kept.numel()
        off = 6 * (p * (1 - p) / count) ** 0.5
        expect.holds(abs(share - p) < off, expected=f"a share of about {p} of the embedding dropped",
                     got=f"{share:.2f}", ask=ask)  # fmt: skip

    @pytest.mark.points(1)
    @pytest.mark.needs("test_parameters")
    def test_defaults(self, student, rng):
        """is ViT-Base with patches of 16 where nothing else is said; tokens and positions start small"""
        ask = "Which defaults does the signature give, and where do they go?"

        def holds(shown, wanted, what):
            expect.holds(shown == wanted, expected=f"{what} by default", got=str(shown), ask=ask)

        # Each model is small in all that is not looked at: many draws of one process must find room side by side.
        m = student.ViT(classes=2, d_model=12, d_ff=3, layers=1)
        shape = {"projection.weight": (12, 768), "projection.bias": (12,)}
        projection = expect.parameters(m.patches, shape, ask=ask)
        expect.array(projection["projection.bias"], shape=(12,), what="the bias of the default projection")
        position = expect.parameters(m.positions, {"weight": (197, 12)}, ask=ask)["weight"]
        expect.array(position, shape=(197, 12), what="the default positions")
        m.eval()
        weights = m.attentions(rng.tensor(1, 3, 224, 224, scale=0.01))
        expect.array(
            weights, shape=(1, 1, 12, 197, 197), what="the attention weights of the default heads", ask=ask
        )
        m = student.ViT((1, 2), 1, 1, d_model=12, d_ff=3)
        head = expect.parameters(m.head, {"weight": (1000, 12), "bias": (1000,)}, ask=ask)
        expect.array(head["bias"], shape=(1000,), what="the bias of the default head")
        holds(len(m.encoder.layers), 12, "12 layers")
        m = student.ViT((1, 2), 1, 1, 2, 12, layers=1)
        shape = {"hidden.weight": (3072, 12), "hidden.bias": (3072,)}
        shape |= {"output.weight": (12, 3072), "output.bias": (12,)}
        named = expect.parameters(m.encoder.layers[0].feed_forward, shape, ask=ask)
        expect.array(named["hidden.bias"], shape=(3072,), what="the bias of the default feed-forward net")
        m = student.ViT((3, 5), 1, 1, 2, d_ff=3, layers=1)
        position = expect.parameters(m.positions, {"weight": (16, 768)}, ask=ask)["weight"].detach()
        token = m.class_token.detach()
        expect.array(token, shape=(768,), what="the class token")
        for name, value in (("a class token", token), ("positions", position)):
            spread, middle = float(value.std()), float(value.mean())
            expect.holds(
                0.016 < spread < 0.024 and abs(middle) < 0.005,
                expected=f"{name} drawn around zero with standard deviation 0.02",
                got=f"mean {middle:.3f}, standard deviation {spread:.3f}",
                ask="`0.02 * torch.randn(...)` draws such numbers.",
            )
        m = student.ViT((4, 6), 2, C, CLASSES, D, H, WIDE, 1)
        images = rng.tensor(40, C, 4, 6)
        m.eval()
        plain = m.embed(images)
        m.train()
        dropped = m.embed(images)
        for out in (plain, dropped):
            expect.array(out, shape=(40, 7, D), dtype=torch.float32, what="the embedding")
        kept = dropped != 0
        ratio = float((dropped[kept] / plain[kept]).median()) if kept.any() else 0.0
        holds(round(1 - 1 / max(ratio, 1e-3), 3), 0.1, "a dropout of 0.1")

    @pytest.mark.points(2)
    @pytest.mark.needs("test_agrees_with_transformers")
    def test_gradients(self, student, rng):
        """sends images and every weight the gradient that the ViT of transformers gets"""
        B, rows, columns, P = setting(rng)
        m, weights = self.model(student, rng, (rows, columns), P, 2, dtype=DOUBLE)
        images = rng.tensor(B, C, rows * P, columns * P, dtype=DOUBLE)
        with expect.unchanged(images=images):
            m(images)
            m.attentions(images)
        mine, given = images.clone().requires_grad_(), rng.tensor(B, CLASSES, dtype=DOUBLE)
        m.zero_grad()
        out = m(mine)
        found = expect.gradient(out, mine, given)
        copies = {name: w.clone().requires_grad_() for name, w in weights.items()}
        copy = images.clone().requires_grad_()
        logits, _ = theirs(copies, copy, P, 2)
        (logits * given).sum().backward()
        ask = "Is every part called as a module, on the graph, and the class token used as a parameter?"
        expect.close(found, copy.grad, what="the gradient of the images", ask=ask)
        named = expect.parameters(m, {name: tuple(w.shape) for name, w in weights.items()}, ask=self.ASK)
        for name, one in copies.items():
            grad = named[name].grad
            expect.holds(grad is not None, expected=f"a gradient for {name}", got="none", ask=ask)
            expect.close(grad, one.grad, what=f"the gradient of {name}", ask=ask)


# ---- rollout --------------------------------------------------------------------------------------------------------


def attention(rng, *shape, dtype=torch.float32):
    """Random attention weights: rows sum to one, and no two heads or layers are alike."""
    return (1.5 * rng.tensor(*shape, dtype=DOUBLE)).softmax(-1).to(dtype)


def rolled(weights):
    """Rollout by loops over layers and heads, in float64, for (L, H, T, T)."""
    total = torch.eye(weights.shape[-1], dtype=DOUBLE)
    for layer in weights.double():
        mean = sum(layer) / len(layer)
        mixed = torch.zeros_like(mean)
        for t in range(len(mean)):
            mixed[t] = 0.5 * mean[t]
            mixed[t, t] += 0.5
        total = mixed @ total
    return total


def wrongly_rolled(weights):
    """What the known mistakes make of weights (B, L, H, T, T), by what is said of them."""
    w = weights.double()
    T, mean = w.shape[-1], w.mean(2)
    eye = torch.eye(T, dtype=DOUBLE)

    def product(layers, first_left=False):
        total = eye
        for layer in layers.unbind(1):
            total = total @ layer if first_left else layer @ total
        return total.expand(len(w), T, T)

    def normed(x, dim=-1):
        return x / x.sum(dim, keepdim=True)

    mixed = (mean + eye) / 2
    right = product(mixed)
    by_head = torch.stack([product((w[:, :, h] + eye) / 2) for h in range(w.shape[2])], dim=1)
    found = {
        "attention without the residual connections: half of each layer is the identity": product(mean),
        "the product in the wrong order: the first layer acts first, so it stands at the right": product(
            mixed, True
        ),
        "the product in the wrong order, and without the residual connections": product(mean, True),
        "the largest of the heads: their mean is asked for": product((w.amax(2) + eye) / 2),
        "the largest of the heads, brought to sum one: their mean is asked for": product(
            normed(w.amax(2) + eye)
        ),
        "the largest of the heads, brought to sum one: their mean is asked for.": product(
            (normed(w.amax(2)) + eye) / 2
        ),
        "the smallest of the heads: their mean is asked for": product((w.amin(2) + eye) / 2),
        "the smallest of the heads, brought to sum one: their mean is asked for": product(
            normed(w.amin(2) + eye)
        ),
        "the smallest of the heads, brought to sum one: their mean is asked for.": product(
            (normed(w.amin(2)) + eye) / 2
        ),
        "the first head alone: their mean is asked for": product((w[:, :, 0] + eye) / 2),
        "the last head alone: their mean is asked for": product((w[:, :, -1] + eye) / 2),
        "the sum of the heads: their mean is asked for": product((w.sum(2) + eye) / 2),
        "the sum of the heads, brought to sum one with the identity: it is half of each": product(
            normed(w.sum(2) + eye)
        ),
        "a residual connection added without halving: the rows of A + I sum to two": product(mean + eye),
        "attention that was not halved: (A + I) / 2, not A + I/2": product(mean + eye / 2),
        "a residual connection that was not halved: (A + I) / 2, not A/2 + I": product(mean / 2 + eye),
        "the identity everywhere ones: I is one on the diagonal alone": product((mean + 1) / 2),
        "halves of attention, without the residual connections": product(mean / 2),
        "a rollout that was halved once, at the end": (product(mean) + eye) / 2,
        "the residual connections of the last layer alone": (mean[:, -1] + eye) / 2 @ product(mean[:, :-1]),
        "the last layer alone": mixed[:, -1],
        "the last layer's attention alone": mean[:, -1],
        "the first layer alone": mixed[:, 0],
        "all layers but the last": product(mixed[:, :-1]),
        "all layers but the first": product(mixed[:, 1:]),
        "the product of all layers' mean, over and over": torch.linalg.matrix_power(
            mixed.mean(1), w.shape[1]
        ),
        "a first layer without its residual connection": product(mixed[:, 1:]) @ mean[:, 0],
        "columns brought to sum one: rows are shares": normed(right, -2),
        "the class token's column taken out": normed(right[..., 1:]).new_zeros(right.shape)
        + normed(right * (torch.arange(T) > 0)),
        "the median of the heads: their mean is asked for": product((w.median(2).values + eye) / 2),
        "the first layer twice": product(torch.cat([mixed[:, :1], mixed], dim=1)),
        "the last layer twice": product(torch.cat([mixed, mixed[:, -1:]], dim=1)),
        "the mean of the layers: they act one upon the other, so their matrices are multiplied": mixed.mean(
            1
        ),
        "the mean of the layers' attention: they act one upon the other, so their matrices are multiplied": mean.mean(
            1
        ),
        "the sum of the layers: their matrices are multiplied": mixed.sum(1),
        "a product entry by entry (*): it is a product of matrices (@)": mixed.prod(1),
        "a product entry by entry (*), started at the identity": eye * mixed.prod(1),
        "columns and rows exchanged: rows are queries": right.mT,
        "every layer's matrix transposed: rows are queries": product(mixed.mT),
        "a rollout of each head by itself, averaged at the end: average the heads of each layer first": by_head.mean(
            1
        ),
        "a rollout of each head by itself: average the heads of each layer first": by_head,
        "every layer's matrix normalised over its columns: rows sum to one, and do so already": product(
            normed(mixed, -2)
        ),
        "a softmax taken once more: the weights come out of one": product((mean.softmax(-1) + eye) / 2),
        "a softmax taken once more, of the mixture": product(mixed.softmax(-1)),
        "the heads averaged over the layers, and multiplied head by head": product((w.mean(1) + eye) / 2),
        "the class token's row alone: all rows are asked for": right[:, 0],
        "what the class token has of the patches: all rows and columns are asked for": right[:, 0, 1:],
        "the patches alone: the class token's row and column belong to it": right[:, 1:, 1:],
        "a rollout after every layer: the last one is asked for": torch.stack(
            [product(mixed[:, : i + 1]) for i in range(w.shape[1])], dim=1
        ),
        "every rollout divided by its largest entry": right / right.amax((-2, -1), keepdim=True),
        "a rollout without its diagonal": right * (1 - eye),
        "the mean over the batch": right.mean(0, keepdim=True).expand_as(right),
    }
    return {says: value.to(weights.dtype) for says, value in found.items()}


@pytest.mark.exercise("attention_rollout")
class TestAttentionRollout:
    ASK = (
        "What is half attention, half identity in each layer, and which layer's matrix meets the input first?"
    )

    @pytest.mark.points(3)
    def test_agrees_with_a_loop(self, student, rng):
        """multiplies, layer upon layer, half the mean attention and half the identity"""
        L = int(rng.integers(3, 6))
        B, heads, T = [n for n in rng.distinct(4, low=2, high=5) if n != L][:3]
        weights = attention(rng, B, L, heads, T, T)
        expected = torch.stack([rolled(one) for one in weights]).float()
        expect.close(student.attention_rollout(weights), expected, what="the rollout", ask=self.ASK,
                     mistakes=lambda: wrongly_rolled(weights))  # fmt: skip

    @pytest.mark.points(1)
    def test_simple_cases(self, student, rng):
        """is (A + I) / 2 for one layer and one head, and the identity where everyone attends to themselves"""
        L, heads, T = rng.distinct(3, low=2, high=6)
        one = attention(rng, 1, 1, 1, T, T)
        ask = "One layer: half of what comes out is what attention brought. And the other half?"
        expect.close(student.attention_rollout(one), (one[:, 0, 0] + torch.eye(T)) / 2, what="the rollout of one layer",
                     ask=ask, mistakes=lambda: wrongly_rolled(one))  # fmt: skip
        eye = torch.eye(T).expand(1, L, heads, T, T)
        expect.close(student.attention_rollout(eye), torch.eye(T)[None], what="the rollout where everyone attends to "
                     "themselves", ask=ask)  # fmt: skip

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_a_loop")
    def test_rows_sum_to_one(self, student, rng):
        """returns shares: rows that sum to one, and zero where nothing could pass"""
        B, L, heads, T = rng.distinct(4, low=2, high=7)
        scores = rng.tensor(B, L, heads, T, T).masked_fill(~torch.ones(T, T).tril().bool(), -torch.inf)
        out = student.attention_rollout(scores.softmax(-1))
        expect.array(out, shape=(B, T, T), what="the rollout")
        expect.close(
            out.sum(-1),
            torch.ones(B, T),
            what="sums of the rows",
            ask="Do the two halves of a layer sum to one?",
        )
        expect.close(out.triu(1), torch.zeros(B, T, T), what="under a causal mask, what came from later rows",
                     ask="Are rows queries in every one of your matrices?")  # fmt: skip

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_a_loop")
    def test_leading_dimensions(self, student, rng):
        """takes any number of leading dimensions, none included"""
        L, heads, T = rng.distinct(3, low=2, high=5)
        for batch in ((), (1,), (2, 3)):
            weights = attention(rng, *batch, L, heads, T, T)
            flat = weights.reshape(-1, L, heads, T, T)
            expected = torch.stack([rolled(one) for one in flat]).float().reshape(*batch, T, T)
            what = f"the rollout of weights of shape {tuple(weights.shape)}"
            expect.close(student.attention_rollout(weights), expected, what=what,
                         ask="Counted from the end, which dimension are the heads, and which the layers?")  # fmt: skip

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_a_loop")
    def test_inputs_and_gradients(self, student, rng):
        """leaves the weights alone, keeps float64, sends every weight its gradient"""
        weights = attention(rng, 2, 3, 2, 4, 4, dtype=DOUBLE)
        with expect.unchanged(weights=weights):
            student.attention_rollout(weights)
        expect.gradients(
            lambda weights: student.attention_rollout(weights), weights=weights, what="the rollout"
        )

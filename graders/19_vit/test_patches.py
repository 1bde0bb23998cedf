"""Checks of unit 19, first half: patches and back, their embedding, positions for another grid.

Every image has three channels unless a check says so, and is never square: what takes a row for a column shows. The
judges are PyTorch's own ``unfold``, ``conv2d`` and ``interpolate``, ``transformers``' ViT for positions, and gradients:
on which pixels a row depends.
"""

import pytest
import torch
import torch.nn.functional as F

from proctor import expect

DOUBLE = torch.float64


# ---- patches, by PyTorch's own operator, and by mistakes ------------------------------------------------------------


def setting(rng):
    """Batch, rows, columns and patch side: all different, and different from the three channels too."""
    B, rows, columns = (int(n) for n in rng.permutation([2, 4, 5, 6])[:3])
    return B, rows, columns, 3 if 2 in (B, rows, columns) else 2


def cut(images, P):
    """What ``patchify`` should return."""
    return F.unfold(images, P, stride=P).transpose(1, 2)


def joined(patches, P, grid):
    """What ``unpatchify`` should return."""
    size = (grid[0] * P, grid[1] * P)
    return F.fold(patches.transpose(1, 2), size, P, stride=P)


def wrongly_cut(images, P):
    """What the known mistakes in cutting lead to, by what is said of them."""
    B, C, height, width = images.shape
    rows, columns = height // P, width // P
    block = images.reshape(B, C, rows, P, columns, P)

    def laid(order, shape=(B, rows * columns, C * P * P)):
        return block.permute(order).reshape(shape)

    apart = images.reshape(B, C, P, rows, P, columns)
    return {
        "the patches column by column: they come in reading order, row by row": laid((0, 4, 2, 1, 3, 5)),
        "patches whose pixels come column by column: within a patch too, they come row by row": laid(
            (0, 2, 4, 1, 5, 3)
        ),
        "patches and pixels both column by column: rows and columns have changed places": laid(
            (0, 4, 2, 1, 5, 3)
        ),
        "the channels last within a patch: all pixels of channel 0 come first, then those of channel 1": laid(
            (0, 2, 4, 3, 5, 1)
        ),
        "the channels last within a patch, and its pixels column by column": laid((0, 2, 4, 5, 3, 1)),
        "the channels between the rows and the columns of a patch: they come first": laid((0, 2, 4, 3, 1, 5)),
        "the patches column by column, with the channels last in each": laid((0, 4, 2, 3, 5, 1)),
        "the numbers in the order in which the image holds them, only in another shape: a patch is not a run of "
        "pixels. Which dimensions must change places before the last reshape?": images.reshape(
            B, rows * columns, -1
        ),
        "rows and columns counted the wrong way round: rows = height / P, columns = width / P": images.reshape(
            B, C, columns, P, rows, P
        )
        .permute(0, 2, 4, 1, 3, 5)
        .reshape(B, rows * columns, -1),
        "channel by channel through the whole image: a patch holds all its channels": laid(
            (0, 1, 2, 4, 3, 5)
        ),
        "strips of the image: its rows were cut, its columns were not": images.transpose(1, 2).reshape(
            B, rows * columns, -1
        ),
        "pixels that lie a whole grid apart: height is rows · P, cut as (rows, P), not as (P, rows)": (
            apart.permute(0, 3, 5, 1, 2, 4).reshape(B, rows * columns, -1)
        ),
        "numbers divided by 255: they are taken as they come": cut(images / 255, P),
        "overlapping patches: the next one begins where the last one ends": F.unfold(images, P).transpose(
            1, 2
        ),
        "the patches of the first image alone": cut(images[:1], P),
        "the channels in reversed order": cut(images.flip(1), P),
        "the image upside down": cut(images.flip(2), P),
        "the image from right to left": cut(images.flip(3), P),
        "the patches of each channel as patches of their own, (B, C·N, P·P)": block.permute(
            0, 1, 2, 4, 3, 5
        ).reshape(B, -1, P * P),
        "one patch a column, (B, C·P·P, N), as `F.unfold` lays them out: a patch is a row": cut(
            images, P
        ).transpose(1, 2),
        "patches that are still images, (B, N, C, P, P): make one row of each": laid(
            (0, 2, 4, 1, 3, 5), (B, rows * columns, C, P, P)
        ),
        "a grid of patches, (B, rows, columns, C·P·P): number them through": laid(
            (0, 2, 4, 1, 3, 5), (B, rows, columns, -1)
        ),
        "the patches of all images in one row of N·B": laid((0, 2, 4, 1, 3, 5), (B * rows * columns, -1)),
    }


def told(mistakes, value):
    """Those mistakes that lead to something else than the right value."""
    return {
        says: wrong
        for says, wrong in mistakes.items()
        if wrong.shape != value.shape or not torch.equal(wrong, value)
    }


def own_pixels(B, N, extra=0):
    """Row n depends on patch n of the same image alone, (B, extra + N, B, N); the extra rows before on nothing."""
    allowed = torch.zeros(B, extra + N, B, N, dtype=torch.bool)
    for b in range(B):
        allowed[b, extra:, b] = torch.eye(N, dtype=torch.bool)
    return allowed


def reaches(function, patches, allowed):
    """``expect.reaches``, in the words of patches."""
    try:
        expect.reaches(function, patches, allowed)
    except expect.Unmet as error:
        text = (
            str(error)
            .replace(" x[", " patch [")
            .replace("which the mask forbids", "whose pixels are not its own")
        )
        text = text.replace("which belongs to another sequence", "which belongs to another image")
        text = text.replace(", which it may attend to", "")
        lines = text.splitlines()
        if "Where do the two meet" in text or "Is the mask" in text:
            lines[-1] = "Ask       Which pixels go into which row, and does each step stay on the graph?"
        raise expect.Unmet("\n".join(lines)) from None


# ---- the checks -----------------------------------------------------------------------------------------------------


@pytest.mark.exercise("patchify")
class TestPatchify:
    @pytest.mark.points(3)
    def test_reading_order(self, student, rng):
        """lays out non-square images of three channels: patches in reading order, within each channel by channel"""
        B, rows, columns, P = setting(rng)
        images = rng.tensor(B, 3, rows * P, columns * P)
        expected = cut(images, P)
        expect.close(
            student.patchify(images, P),
            expected,
            what="the patches",
            ask="B, C, rows, P, columns, P: in which order do N (rows, columns) and the C·P·P numbers want them?",
            mistakes=lambda: wrongly_cut(images, P),
        )

    @pytest.mark.points(1)
    def test_first_patch(self, student, rng):
        """takes for the first patch the corner at the top left, for the last the one at the bottom right"""
        B, rows, columns, P = setting(rng)
        images = rng.tensor(B, 3, rows * P, columns * P)
        out = student.patchify(images, P)
        expect.array(out, shape=(B, rows * columns, 3 * P * P), what="the patches",
                     ask="How many patches, and how many numbers in each?")  # fmt: skip
        ask = "Where in the image does this patch lie, and in which order does it give its pixels?"
        corners = {0: images[:, :, :P, :P], -1: images[:, :, -P:, -P:], 1: images[:, :, :P, P : 2 * P]}
        for n, corner in corners.items():
            expect.close(out[:, n], corner.flatten(1), what=f"patch {n}", ask=ask)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_reading_order")
    def test_other_sizes(self, student, rng):
        """cuts any size: one patch, one row or column of them, patches of one pixel, one channel, one image"""
        for B, C, rows, columns, P in (
            (1, 1, 1, 1, 3),
            (2, 4, 1, 3, 2),
            (3, 3, 4, 1, 2),
            (2, 3, 3, 5, 1),
            (1, 2, 5, 3, 4),
        ):
            images = rng.tensor(B, C, rows * P, columns * P)
            what = f"{rows} by {columns} patches of {P} by {P} pixels and {C} channels"
            expect.close(
                student.patchify(images, P), cut(images, P), what=what, ask="Is any size fixed in your code?"
            )
        images = rng.tensor(2, 6, 4, 3).permute(
            0, 3, 1, 2
        )  # channels last in memory, as image files have them
        expect.close(student.patchify(images, 2), cut(images, 2), what="the patches of images that lie in memory "
                     "with their channels last", ask="`view` needs one order in memory; what does not?")  # fmt: skip

    @pytest.mark.points(1)
    def test_refuses_what_does_not_divide(self, student, rng):
        """raises a ValueError where height or width is no multiple of the patch"""
        for height, width, P in ((7, 6, 3), (6, 7, 3), (5, 5, 2), (4, 6, 4), (2, 8, 4), (8, 2, 4)):
            images = rng.tensor(2, 3, height, width)
            expect.raises(
                ValueError,
                lambda images=images, P=P: student.patchify(images, P),
                when=f"for {height} by {width} pixels and P = {P}",
                ask="Which two divisions must leave no remainder?",
            )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_reading_order")
    def test_inputs_and_gradients(self, student, rng):
        """leaves the images alone, keeps float64, sends each pixel its gradient"""
        images = rng.tensor(2, 3, 4, 6, dtype=DOUBLE)
        with expect.unchanged(images=images):
            student.patchify(images, 2)
        expect.gradients(lambda images: student.patchify(images, 2), images=images, what="the patches")


@pytest.mark.exercise("unpatchify")
class TestUnpatchify:
    @pytest.mark.points(3)
    def test_puts_images_together(self, student, rng):
        """puts the patches of non-square images of three channels back where they were"""
        B, rows, columns, P = setting(rng)
        images = rng.tensor(B, 3, rows * P, columns * P)
        patches, grid = cut(images, P), (rows, columns)

        def mistakes():
            block = patches.reshape(B, rows, columns, 3, P, P)
            last = patches.reshape(B, rows, columns, P, P, 3)
            turned = patches.reshape(B, columns, rows, 3, P, P)
            size = (B, 3, rows * P, columns * P)
            return {
                "patches laid out column by column: patch 1 is to the right of patch 0": turned.permute(
                    0, 3, 2, 4, 1, 5
                ).reshape(size),
                "an image of columns by rows patches: the grid is (rows, columns)": turned.permute(
                    0, 3, 1, 4, 2, 5
                ).reshape(B, 3, columns * P, rows * P),
                "patches whose pixels were laid out column by column": block.permute(
                    0, 3, 1, 5, 2, 4
                ).reshape(size),
                "the whole image turned over its diagonal": block.permute(0, 3, 2, 5, 1, 4).reshape(
                    B, 3, columns * P, rows * P
                ),
                "patches taken for pixel by pixel, channels last: a patch has channel 0 first": last.permute(
                    0, 5, 1, 3, 2, 4
                ).reshape(size),
                "patches taken for pixel by pixel, channels last, and column by column": last.permute(
                    0, 5, 1, 4, 2, 3
                ).reshape(size),
                "the numbers in the order in which the patches hold them, only in another shape": patches.reshape(
                    size
                ),
                "pixels spread over the image, a grid apart: a patch stays together": block.permute(
                    0, 3, 4, 1, 5, 2
                ).reshape(size),
                "images with their channels last, (B, height, width, C)": images.permute(0, 2, 3, 1),
                "the channels first, before the batch": images.transpose(0, 1),
                "the patches from the last to the first": joined(patches.flip(1), P, grid),
                "pixels of a patch side by side with its rows across the image": block.permute(
                    0, 3, 2, 4, 1, 5
                ).reshape(size),
                "the dimensions still apart, (B, C, rows, P, columns, P)": block.permute(0, 3, 1, 4, 2, 5),
            }

        expect.close(
            student.unpatchify(patches, P, grid),
            images,
            what="the images",
            ask="N is rows and columns, a row is C, P, P. Where does each of these five belong in an image?",
            mistakes=mistakes,
        )

    @pytest.mark.points(2)
    @pytest.mark.needs("test_puts_images_together")
    def test_other_sizes(self, student, rng):
        """puts any size together: one patch, one row or column, patches of one pixel, one channel, one image"""
        for B, C, rows, columns, P in (
            (1, 1, 1, 1, 3),
            (2, 4, 1, 3, 2),
            (3, 3, 4, 1, 2),
            (2, 3, 3, 5, 1),
            (1, 2, 5, 3, 4),
        ):
            patches = rng.tensor(B, rows * columns, C * P * P)
            what = f"{rows} by {columns} patches of {P} by {P} pixels and {C} channels"
            out = student.unpatchify(patches, P, (rows, columns))
            expect.close(out, joined(patches, P, (rows, columns)), what=what,
                         ask="How many channels does a row of C·P·P numbers have?")  # fmt: skip
        patches = rng.tensor(12, 6, 2).permute(2, 1, 0)
        out = student.unpatchify(patches, 2, (2, 3))
        expect.close(out, joined(patches, 2, (2, 3)), what="the images from patches that lie otherwise in memory",
                     ask="`view` needs one order in memory; what does not?")  # fmt: skip

    @pytest.mark.points(1)
    def test_refuses_what_does_not_fit(self, student, rng):
        """raises a ValueError where N is not rows · columns, or a row is no whole number of channels"""
        for count, width, P, grid, why in (
            (6, 12, 2, (2, 4), "for 6 patches in a grid of 2 by 4"),
            (12, 12, 2, (2, 3), "for 12 patches in a grid of 2 by 3"),
            (6, 10, 2, (2, 3), "for rows of 10 numbers and P = 2"),
            (6, 12, 3, (2, 3), "for rows of 12 numbers and P = 3"),
        ):
            patches = rng.tensor(2, count, width)
            expect.raises(
                ValueError,
                lambda patches=patches, P=P, grid=grid: student.unpatchify(patches, P, grid),
                when=why,
                ask="Which number of patches does the grid have, and what must a row's width be a multiple of?",
            )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_puts_images_together")
    def test_inputs_and_gradients(self, student, rng):
        """leaves the patches alone, keeps float64, sends each number its gradient"""
        patches = rng.tensor(2, 6, 12, dtype=DOUBLE)
        with expect.unchanged(patches=patches):
            student.unpatchify(patches, 2, (2, 3))
        expect.gradients(
            lambda patches: student.unpatchify(patches, 2, (2, 3)), patches=patches, what="the images"
        )


@pytest.mark.exercise("PatchEmbedding")
class TestPatchEmbedding:
    ASK = "`projection` is one nn.Linear from C·P·P to D, with a bias, made in __init__ after super().__init__()."

    def layer(self, student, rng, P, C, D, dtype=torch.float32):
        """The learner's layer with weights that we have drawn, and these weights."""
        m = student.PatchEmbedding(P, C, D)
        shapes = {"projection.weight": (D, C * P * P), "projection.bias": (D,)}
        expect.parameters(m, shapes, ask=self.ASK)
        weight = rng.tensor(D, C * P * P, scale=(C * P * P) ** -0.5, dtype=dtype)
        bias = rng.tensor(D, dtype=dtype)
        m = m.double() if dtype == DOUBLE else m
        m.load_state_dict({"projection.weight": weight, "projection.bias": bias}, strict=False)
        return m, weight, bias

    @pytest.mark.points(1)
    def test_parameters(self, student, rng):
        """owns one linear map, `projection`, from C·P·P to D"""
        P, C, D = rng.distinct(3, low=2, high=5)
        self.layer(student, rng, P, C, D)

    @pytest.mark.points(3)
    @pytest.mark.needs("test_parameters")
    def test_equals_a_convolution(self, student, rng):
        """equals a convolution with stride P whose kernel has the same weights"""
        B, rows, columns, P = setting(rng)
        D = int(rng.integers(7, 10))
        m, weight, bias = self.layer(student, rng, P, 3, D)
        images = rng.tensor(B, 3, rows * P, columns * P)

        def convolved(images, weight=weight, bias=bias):
            return F.conv2d(images, weight.view(D, 3, P, P), bias, stride=P)

        expected = convolved(images).flatten(2).transpose(1, 2)

        def mistakes():
            kernel = weight.view(D, 3, P, P)
            nothing = torch.zeros(D)
            inside = {
                f"an embedding of {says.split(':')[0]}: look at patchify": F.linear(wrong, weight, bias)
                for says, wrong in wrongly_cut(images, P).items()
                if wrong.shape == (B, rows * columns, 3 * P * P)
            }
            return inside | {
                "patches without the bias": convolved(images, bias=nothing).flatten(2).transpose(1, 2),
                "one row a feature, (B, D, N): a patch is a row": convolved(images).flatten(2),
                "a map of D features, (B, D, rows, columns): number the patches through": convolved(images),
                "a grid of rows, (B, rows, columns, D): number the patches through": convolved(
                    images
                ).permute(0, 2, 3, 1),
                "rows bent by a ReLU: the map is linear": expected.relu(),
                "rows bent by a GELU: the map is linear": F.gelu(expected),
                "rows bent by a tanh: the map is linear": expected.tanh(),
                "patches read backwards": F.linear(cut(images, P).flip(-1), weight, bias),
                "patches whose mean was taken off: they are taken as they come": F.linear(
                    cut(images, P) - cut(images, P).mean(-1, keepdim=True), weight, bias
                ),
                "rows times √D: nothing scales here": expected * D**0.5,
                "rows brought to mean 0 and variance 1: no norm belongs here": F.layer_norm(expected, (D,)),
                "the kernel turned over its diagonal": F.conv2d(
                    images, kernel.transpose(2, 3), bias, stride=P
                )
                .flatten(2)
                .transpose(1, 2),
                "images normalised first: they are taken as they come": (
                    convolved((images - images.mean()) / images.std()).flatten(2).transpose(1, 2)
                ),
                "images normalised first: they are taken as they come.": (
                    convolved(2 * images - 1).flatten(2).transpose(1, 2)
                ),
                "a convolution with stride 1: patches do not overlap": F.conv2d(images, kernel, bias)
                .flatten(2)
                .transpose(1, 2),
            }

        ask = "Cut as `patchify` does, then one linear map for all patches: is there anything else?"
        expect.close(m(images), expected, what="the embedded patches", ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_equals_a_convolution")
    def test_any_grid(self, student, rng):
        """embeds images of any size with the same weights"""
        P, C, D = rng.distinct(3, low=2, high=5)
        m, weight, bias = self.layer(student, rng, P, C, D)
        for rows, columns in ((1, 1), (3, 1), (2, 4), (5, 3)):
            images = rng.tensor(2, C, rows * P, columns * P)
            expected = F.conv2d(images, weight.view(D, C, P, P), bias, stride=P).flatten(2).transpose(1, 2)
            what = f"the embedding of {rows} by {columns} patches"
            expect.close(m(images), expected, what=what, ask="Is a grid fixed in your code?")

    @pytest.mark.points(1)
    @pytest.mark.needs("test_parameters")
    def test_who_sees_what(self, student, rng):
        """makes each row of its own pixels alone; images of a batch do not mix"""
        rows, columns, P = (2, 3, 2) if rng.integers(2) else (3, 2, 2)
        m, _, _ = self.layer(student, rng, P, 3, 5)
        patches = rng.tensor(2, rows * columns, 3 * P * P)
        reaches(lambda x: m(joined(x, P, (rows, columns))), patches, own_pixels(2, rows * columns))

    @pytest.mark.points(1)
    @pytest.mark.needs("test_equals_a_convolution")
    def test_inputs_and_gradients(self, student, rng):
        """leaves the images alone; image, weight and bias get the right gradients"""
        m, weight, bias = self.layer(student, rng, 2, 3, 5, DOUBLE)
        images = rng.tensor(2, 3, 4, 6, dtype=DOUBLE)
        with expect.unchanged(images=images):
            m(images)
        expect.gradients(lambda images: m(images), images=images, what="the embedding")
        m.zero_grad()
        out = m(images)
        given = rng.tensor(2, 6, 5, dtype=DOUBLE)
        expect.array(out, shape=(2, 6, 5), dtype=DOUBLE)
        expect.holds(
            out.requires_grad, expected="an output that can be differentiated with respect to the weights",
            got="one that is cut off from them", ask="Is `projection` called as a module?",
        )  # fmt: skip
        out.backward(given)
        copies = {"weight": weight.clone().requires_grad_(), "bias": bias.clone().requires_grad_()}
        (F.linear(cut(images, 2), copies["weight"], copies["bias"]) * given).sum().backward()
        found = expect.parameters(m, {"projection.weight": (5, 12), "projection.bias": (5,)}, ask=self.ASK)
        for name, copy in copies.items():
            grad = found[f"projection.{name}"].grad
            ask = "Is `projection` called as a module, on the graph?"
            expect.holds(grad is not None, expected=f"a gradient for projection.{name}", got="none", ask=ask)
            expect.close(grad, copy.grad, what=f"the gradient of projection.{name}", ask=ask)


# ---- positions ------------------------------------------------------------------------------------------------------


def resized(positions, grid, new, mode="bicubic", **options):
    """What ``interpolate_positions`` should return, or what another way of resizing makes of it."""
    image = positions[1:].T.reshape(1, -1, *grid)
    options = options or ({"align_corners": False} if mode in ("bicubic", "bilinear") else {})
    return torch.cat([positions[:1], F.interpolate(image, size=new, mode=mode, **options)[0].flatten(1).T])


def wrongly_resized(positions, grid, new):
    """What the known mistakes lead to, by what is said of them."""
    first, rest = positions[:1], positions[1:]
    count, turned, new_turned = new[0] * new[1], grid[::-1], new[::-1]
    right = resized(positions, grid, new)

    def line(mode):
        image = rest.T[None] if mode == "linear" else rest.T[None, :, None]
        size = count if mode == "linear" else (1, count)
        return torch.cat(
            [first, F.interpolate(image, size=size, mode=mode, align_corners=False)[0].flatten(1).T]
        )

    def columnwise():
        image = rest.T.reshape(1, -1, *turned).transpose(2, 3)
        return torch.cat(
            [first, F.interpolate(image, size=new, mode="bicubic", align_corners=False)[0].flatten(1).T]
        )

    def scaled():
        image = rest.T.reshape(1, -1, *grid)
        factor = (new[0] / grid[0] + 1e-3, new[1] / grid[1] + 1e-3)
        out = F.interpolate(image, scale_factor=factor, mode="bicubic", align_corners=False)
        return torch.cat([first, out[0, :, : new[0], : new[1]].flatten(1).T])

    def squeezed():
        image = rest.reshape(1, *grid, -1).permute(0, 3, 1, 2)
        out = F.interpolate(image, size=new, mode="bicubic", align_corners=False)
        return torch.cat([first, out.reshape(-1, positions.shape[1])])

    def as_pixels():  # the vectors reshaped without a transpose: features and places are mixed
        image = rest.reshape(1, -1, *grid)
        out = F.interpolate(image, size=new, mode="bicubic", align_corners=False)
        return torch.cat([first, out[0].flatten(1).T])

    def all_rows():
        out = F.interpolate(
            positions.T[None, :, None], size=(1, 1 + count), mode="bicubic", align_corners=False
        )
        return out[0].flatten(1).T

    def last_as_class():
        out = resized(torch.cat([positions[-1:], positions[:-1]]), grid, new)
        return torch.cat([out[1:], out[:1]])

    return {
        "a grid whose centres were aligned: align_corners is False, so that the outer edges are": (
            lambda: resized(positions, grid, new, align_corners=True)
        ),
        "bilinear interpolation: the docstring says bicubic": lambda: resized(
            positions, grid, new, "bilinear"
        ),
        "bilinear interpolation with aligned centres": lambda: resized(
            positions, grid, new, "bilinear", align_corners=True
        ),
        "the nearest old position for every new one: interpolate bicubically": lambda: resized(
            positions, grid, new, "nearest"
        ),
        "the nearest old position for every new one: interpolate bicubically.": lambda: resized(
            positions, grid, new, "nearest-exact"
        ),
        "averages over areas: interpolate bicubically": lambda: resized(positions, grid, new, "area"),
        "positions that were smoothed against aliasing: leave `antialias` alone": lambda: resized(
            positions, grid, new, align_corners=False, antialias=True
        ),
        "positions interpolated along the sequence, as if all patches lay in one line: they form a grid": lambda: (
            line("linear")
        ),
        "positions interpolated along the sequence, as if all patches lay in one line: they form a grid.": lambda: (
            line("bicubic")
        ),
        "all positions interpolated in one line, that of the class token too: it has no place in the grid": all_rows,
        "the old grid read column by column: patches are in reading order": columnwise,
        "the old grid with rows and columns exchanged: `grid` is (rows, columns)": lambda: resized(
            positions, turned, new
        ),
        "the new grid with rows and columns exchanged: `new_grid` is (rows, columns)": lambda: resized(
            positions, grid, new_turned
        ),
        "both grids with rows and columns exchanged: they are (rows, columns)": lambda: resized(
            positions, turned, new_turned
        ),
        "new positions read off column by column": lambda: torch.cat(
            [first, right[1:].reshape(*new, -1).transpose(0, 1).reshape(count, -1)]
        ),
        "features and places mixed up: (N, D) to (D, rows, columns) takes a transpose, not only a reshape": as_pixels,
        "features and places mixed up: (D, rows, columns) to (M, D) takes a transpose, not only a reshape": (
            squeezed
        ),
        "new positions alone: the class token keeps its row, in front": lambda: right[1:],
        "the class token's row behind the others: it stays in front": lambda: torch.cat([right[1:], first]),
        "the last position taken for the class token's: it is the first": last_as_class,
        "the class token's row added to all new ones": lambda: torch.cat([first, right[1:] + first]),
        "rows brought to length one: only their number changes": lambda: torch.cat(
            [first, F.normalize(right[1:], dim=1)]
        ),
        "zeros for the class token: its row stays as it was": lambda: torch.cat(
            [torch.zeros_like(first), right[1:]]
        ),
        "the mean of the others for the class token: its row stays as it was": lambda: torch.cat(
            [rest.mean(0, keepdim=True), right[1:]]
        ),
        "a scale that is a little off: give `interpolate` the new size, not a factor": scaled,
        "positions with a dimension in front, (1, 1 + M, D): the contract has none": lambda: right[None],
        "as many old positions as are needed, in their old order": lambda: torch.cat(
            [positions, positions[1:].repeat(1 + count // max(1, len(rest)), 1)]
        )[: 1 + count],
    }


def or_else(call, default):
    """What a mistake leads to; where it only leads to an error, nobody can be told of it."""

    def value():
        try:
            return call()
        except Exception:
            return default

    return value


@pytest.mark.exercise("interpolate_positions")
class TestInterpolatePositions:
    ASK = "Take every feature for a picture of rows by columns: which shape does `F.interpolate` want?"

    def judged(self, student, rng, grid, new, expected=None, positions=None):
        D = int(rng.integers(7, 10))
        positions = rng.tensor(1 + grid[0] * grid[1], D) if positions is None else positions
        expected = resized(positions, grid, new) if expected is None else expected
        none = torch.zeros(())
        expect.close(
            student.interpolate_positions(positions, grid, new),
            expected,
            what=f"positions from {grid[0]} by {grid[1]} to {new[0]} by {new[1]}",
            ask=self.ASK,
            mistakes=lambda: {
                says: or_else(call, none) for says, call in wrongly_resized(positions, grid, new).items()
            },
        )

    @pytest.mark.points(3)
    def test_larger_grid(self, student, rng):
        """makes positions for a larger grid that is not square out of one that is not"""
        rows, columns = rng.distinct(2, low=3, high=5)
        more, less = rng.distinct(2, low=1, high=3)
        self.judged(student, rng, (rows, columns), (rows + more, columns + less))
        self.judged(student, rng, (rows, columns), (columns + 2, rows + 2))

    @pytest.mark.points(1)
    @pytest.mark.needs("test_larger_grid")
    def test_smaller_grid(self, student, rng):
        """makes positions for a smaller grid, and for one that is only turned"""
        rows, columns = rng.distinct(2, low=5, high=7)
        self.judged(student, rng, (rows, columns), (rows - 3, columns - 2))
        self.judged(student, rng, (rows, columns), (columns, rows))
        self.judged(student, rng, (rows, 1), (2, 3))
        self.judged(student, rng, (1, columns), (1, 3))
        self.judged(student, rng, (1, 1), (2, 3))

    @pytest.mark.points(1)
    def test_class_token_and_same_grid(self, student, rng):
        """keeps the class token's row, and everything where the grid stays the same"""
        rows, columns = rng.distinct(2, low=2, high=5)
        positions = rng.tensor(1 + rows * columns, 6)
        ask = "Which row has no place in the grid? Take it off first, and put it back in front at the end."
        out = student.interpolate_positions(positions, (rows, columns), (rows + 1, columns + 2))
        expect.array(out, shape=(1 + (rows + 1) * (columns + 2), 6), what="the new positions", ask=ask)
        expect.close(out[0], positions[0], what="the class token's position", ask=ask)
        self.judged(student, rng, (rows, columns), (rows, columns), positions, positions)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_larger_grid")
    def test_agrees_with_transformers(self, student, rng):
        """agrees with the ViT of transformers, read at another resolution"""
        from transformers import ViTConfig
        from transformers.models.vit.modeling_vit import ViTEmbeddings

        side, (rows, columns) = int(rng.integers(3, 6)), rng.distinct(2, low=2, high=8)
        config = ViTConfig(
            hidden_size=6, image_size=2 * side, patch_size=2, num_channels=3, num_attention_heads=2
        )
        theirs, positions = ViTEmbeddings(config), rng.tensor(1 + side**2, 6)
        theirs.position_embeddings.data = positions[None]
        with torch.no_grad():
            expected = theirs.interpolate_pos_encoding(
                torch.zeros(1, 1 + rows * columns, 6), 2 * rows, 2 * columns
            )[0]
        self.judged(student, rng, (side, side), (rows, columns), expected, positions)

    @pytest.mark.points(1)
    def test_refuses_another_number(self, student, rng):
        """raises a ValueError where there are not 1 + rows · columns positions"""
        for count, grid in ((6, (2, 3)), (8, (2, 3)), (13, (3, 3)), (12, (2, 3))):
            positions = rng.tensor(count, 4)
            expect.raises(
                ValueError,
                lambda positions=positions, grid=grid: student.interpolate_positions(positions, grid, (4, 5)),
                when=f"for {count} positions and a grid of {grid[0]} by {grid[1]}",
                ask="One row for the class token, and how many for the patches?",
            )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_larger_grid")
    def test_inputs_and_gradients(self, student, rng):
        """leaves the positions alone, keeps float64, sends every position its gradient"""
        positions = rng.tensor(7, 3, dtype=DOUBLE)
        with expect.unchanged(positions=positions):
            student.interpolate_positions(positions, (2, 3), (3, 4))
            student.interpolate_positions(positions, (2, 3), (2, 3))
        expect.gradients(
            lambda positions: student.interpolate_positions(positions, (2, 3), (3, 4)),
            positions=positions, what="the new positions",
        )  # fmt: skip

"""Properties of ``scratch.embeddings``, judged by PyTorch's own lookup and by a product with one-hot rows."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from scratch.embeddings import Embedding

quick = settings(max_examples=40, deadline=None)
shapes = st.lists(st.integers(0, 4), max_size=3).map(tuple)
seeds = st.integers(0, 2**31 - 1)
paddings = st.one_of(st.none(), st.integers(0, 6))


def layer(seed, padding_id, V=7, D=3):
    torch.manual_seed(seed)
    return Embedding(V, D, padding_id).double()


class TestEmbedding:
    @quick
    @given(seeds, shapes, paddings)
    def test_it_agrees_with_pytorch_in_output_and_gradient(self, seed, shape, padding_id):
        ours = layer(seed, padding_id)
        ids = torch.randint(0, 7, shape)
        theirs = ours.weight.detach().clone().requires_grad_()
        expected = F.embedding(ids, theirs, padding_idx=padding_id)
        out = ours(ids)
        assert torch.equal(out, expected)
        given = torch.randn(out.shape, dtype=torch.float64)
        for output in (out, expected):
            (output * given).sum().backward()
        torch.testing.assert_close(ours.weight.grad, theirs.grad)

    @quick
    @given(seeds, shapes)
    def test_it_is_a_product_with_one_hot_rows(self, seed, shape):
        ours, ids = layer(seed, None), torch.randint(0, 7, shape)
        torch.testing.assert_close(ours(ids), F.one_hot(ids, 7).double() @ ours.weight)

    @pytest.mark.parametrize("decay", [0.0, 0.1])
    def test_the_row_of_the_padding_stays_zero(self, decay):
        ours = layer(0, 2)
        optimizer = torch.optim.AdamW(ours.parameters(), lr=0.1, weight_decay=decay)
        before = ours.weight.detach().clone()
        for _ in range(3):
            optimizer.zero_grad()
            (ours(torch.tensor([[0, 2], [2, 1]])) - 1).square().sum().backward()
            optimizer.step()
        assert (ours.weight[2] == 0).all()
        assert (ours.weight[:2] != before[:2]).all()

    def test_spread(self):
        weight = Embedding(300, 64).weight.detach()[1:]
        assert abs(weight.std() * 8 - 1) < 0.05
        assert abs(weight.mean()) < 0.01

    @pytest.mark.parametrize("wrong", [-1, 7])
    def test_ids_without_a_row_are_refused(self, wrong):
        with pytest.raises(IndexError, match="between 0 and 6"):
            layer(0, None)(torch.tensor([0, wrong]))

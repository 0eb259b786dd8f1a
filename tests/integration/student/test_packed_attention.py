"""Torch's kernel and plain products are the same attention, also where its keys are only a part of one softmax."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from baldistill.student.packed.kernels import (
    attend,
    attend_backward,
    attend_backward_by_products,
    attend_by_products,
)

# Rows, heads of queries and of keys, queries, keys, size of a head, causal.
SHAPES = [
    (2, 9, 3, 50, 50, 64, True),
    (1, 9, 3, 70, 31, 64, False),
    (3, 4, 4, 1, 1, 16, True),
    (1, 4, 2, 600, 600, 8, True),
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_kernel_attends_as_plain_products_do(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    queries, keys, values, _ = tensors(shape, dtype)
    found = attend(queries, keys, values, causal=bool(shape[-1]))
    expected = attend_by_products(queries, keys, values, causal=bool(shape[-1]))
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_kernel_flows_back_as_plain_products_do_where_other_keys_are_in_the_softmax(shape: tuple[int, ...]) -> None:
    queries, keys, values, gradient = tensors(shape, torch.float32)
    output, log_normaliser = attend_by_products(queries, keys, values, causal=bool(shape[-1]))
    whole = {"output": 0.7 * output, "log_normaliser": log_normaliser + 0.3, "causal": bool(shape[-1])}
    found = attend_backward(gradient, queries, keys, values, **whole)  # type: ignore[arg-type]
    expected = attend_backward_by_products(gradient, queries, keys, values, **whole)  # type: ignore[arg-type]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def tensors(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return queries, keys, values and a gradient, laid out token by token as a pack has them."""
    rows, heads, key_heads, asking, asked, size, _ = shape
    rng = torch.Generator().manual_seed(1)
    queries, keys, values, gradient = (
        torch.randn(rows, count, of, size, generator=rng).to(dtype).transpose(1, 2)
        for count, of in ((asking, heads), (asked, key_heads), (asked, key_heads), (asking, heads))
    )
    return queries, keys, values, gradient

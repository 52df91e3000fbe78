"""What the benchmark of products in int8 measures is such a product."""

from __future__ import annotations

import pytest
import torch

from benchmarks.int8 import Int8Weight


@pytest.mark.skipif(not torch.cpu._is_vnni_supported(), reason="this CPU has no products in int8")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_product_is_that_of_rounded_numbers_and_each_row_is_by_itself(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    x_PI, weight_OI, bias_O = (torch.randn(*size, generator=generator).to(dtype) for size in ((9, 64), (48, 64), (48,)))
    x_PI[3] *= 1000
    multiply = Int8Weight(weight_OI, bias_O)
    found_PO = multiply(x_PI)
    scale_P1, scale_O1 = ((t.double().abs().amax(1, keepdim=True) / 127) for t in (x_PI, weight_OI))
    scale_P1 = scale_P1.to(dtype).double()
    rounded_PI, rounded_OI = (x_PI.double() / scale_P1).round(), (weight_OI.double() / scale_O1).round()
    expected_PO = (rounded_PI * scale_P1) @ (rounded_OI * scale_O1).T + bias_O.double()
    step = 127 * 127 * scale_P1 * scale_O1.T  # a number in the middle of two is rounded to either
    assert ((found_PO - expected_PO).abs() <= step * (0.02 if dtype == torch.float32 else 0.05)).all()
    exact_PO = x_PI.double() @ weight_OI.double().T + bias_O.double()
    assert 0 < (found_PO - exact_PO)[:3].norm() < 0.02 * exact_PO[:3].norm()
    assert torch.equal(torch.cat([multiply(row_1I) for row_1I in x_PI.split(1)]), found_PO)

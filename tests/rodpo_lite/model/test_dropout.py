"""Dropout at the ends of its range."""

import pytest
import torch
from pydantic import ValidationError

from rodpo_lite.model.config import EncoderConfig
from rodpo_lite.model.dropout import keep_mask


@pytest.mark.parametrize("p", [0.0, 1e-6, 2e-5, 0.999, 0.99998, 0.999995, 1.0])
def test_the_right_share_is_kept(p):
    """It is a multiple of 2^-16, and never zero; 5 standard errors and the rounding are allowed."""
    torch.manual_seed(0)
    count = 4_000_000
    kept, expected = int(keep_mask(torch.Size([count]), p).sum()), count * max(1 - p, 2**-16)
    assert kept > 0 and abs(kept - expected) < 5 * max(expected * p, 1) ** 0.5 + count * 2**-17


def test_a_dropout_of_nearly_everything_is_refused():
    assert EncoderConfig(dropout=0.99).dropout == 0.99
    with pytest.raises(ValidationError, match=r"less than or equal to 0\.99"):
        EncoderConfig(dropout=0.999995)

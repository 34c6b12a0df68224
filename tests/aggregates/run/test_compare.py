"""Rules by which two results count as equal."""

from __future__ import annotations

import pytest

from aggregates.run.compare import equal


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (1.0, 1.0 + 5e-10, True),
        (1.0, 1.0 + 5e-9, False),
        (9e-13, 1e-13, False),
        (0.0, 9e-13, False),
        (1e-13, 1e-13 * (1 + 5e-10), True),
        (0.0, -0.0, True),
        (float("nan"), float("nan"), True),
        (2, 2.0, True),
        (True, 1, False),
        ({"a": [1e-13]}, {"a": [2e-13]}, False),
    ],
)
def test_floats_agree_within_a_relative_bound_however_small_they_are(one, other, same):
    assert equal(one, other) is same

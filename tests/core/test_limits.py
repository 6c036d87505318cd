from __future__ import annotations

import pytest

from sapiens_core.contract.limits import LIMITS, allow_pixels, check_size, checked_max_pixels
from sapiens_core.contract.region_names import without_region_names


def test_a_process_refuses_more_pixels_than_it_is_told_to_allow():
    allow_pixels(200)
    try:
        check_size(20, 10)
        with pytest.raises(ValueError, match=r"at most 200 pixels .* got 20 x 11"):
            check_size(20, 11)
    finally:
        allow_pixels(LIMITS.max_image_pixels)


@pytest.mark.parametrize("text", ["", "0", "-5", "1e6", "many", str(LIMITS.max_image_pixels + 1)])
def test_what_is_no_limit_is_refused_with_what_it_is(text):
    with pytest.raises(ValueError, match=f"from 1 to {LIMITS.max_image_pixels}, got '{text}'"):
        checked_max_pixels(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Unable to find shared memory region: 'a_1'", "Unable to find shared memory region:"),
        ("shared memory region 'a' already in manager", "shared memory region already in manager"),
        ("the shared memory pool size for key 'b-2' to 64", "the shared memory pool size for key to 64"),
        ("no such model 'depth'", "no such model 'depth'"),
    ],
)
def test_names_of_regions_are_left_out(text, told):
    assert without_region_names(text) == told

from __future__ import annotations

import numpy as np
import pytest

from sapiens_core.motion.maps import blended, change, is_cut, thumbnail
from sapiens_core.motion.one_euro import OneEuro, jitter, smoothed

RATE = 30.0
HEIGHT = 300.0  # of a person, pixels


def filtered(points, times_s=None):
    times_s = np.arange(len(points)) / RATE if times_s is None else times_s
    state, values = None, []
    for time_s, each in zip(times_s, points, strict=True):
        state = smoothed(state, each, float(time_s), OneEuro(), HEIGHT)
        values.append(state.values)
    return np.stack(values)


def noisy(path):
    noise = np.random.default_rng(0).normal(0, 2, (*path.shape[:1], 17, 2))
    return (path[:, None] + noise).astype(np.float32)


def test_what_rests_trembles_a_fifth_as_much():
    points = noisy(np.zeros((200, 2)))
    assert jitter(filtered(points)) < 0.2 * jitter(points)


def test_what_moves_does_not_lag_behind():
    times_s = np.arange(200) / RATE
    swing = np.stack([60 * np.sin(2 * np.pi * times_s), 0 * times_s], axis=1)  # a waving arm
    points = noisy(swing)
    smooth = filtered(points)
    assert jitter(smooth - swing[:, None]) < 0.7 * jitter(points - swing[:, None])
    assert np.abs(smooth.mean(axis=1) - swing).max() < 0.06 * HEIGHT


def test_a_point_that_was_unknown_starts_anew():
    points = np.zeros((4, 1, 2), np.float32)
    points[1], points[2:] = np.nan, 50
    smooth = filtered(points)
    assert np.isnan(smooth[1]).all()
    np.testing.assert_array_equal(smooth[2], points[2])


def test_time_counts_not_the_number_of_frames():
    step = np.float32([0, 100])[:, None, None]
    short, long = (filtered(step, times_s=[0, passed_s])[1].item() for passed_s in (0.01, 1.0))
    assert 0 < short < long < 100


def test_jitter_is_of_bends():
    line = np.arange(10, dtype=np.float32)[:, None, None] * np.float32([3, 4])
    assert jitter(line) == 0
    zigzag = line * np.float32([0, 0])
    zigzag[::2, :, 0] = 1
    assert jitter(zigzag) == pytest.approx(2)
    assert np.isnan(jitter(line[:2]))


def picture(seed, size=(180, 320)):
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), np.uint8)
    return np.kron(coarse, np.ones((size[0] // 4 + 1, size[1] // 6 + 1, 1), np.uint8))[: size[0], : size[1]]


def test_another_shot_is_a_cut_and_a_moving_person_is_none():
    shot = picture(0)
    walked = shot.copy()
    walked[40:140, 100:180] = 90
    assert is_cut(thumbnail(shot), thumbnail(picture(1)))
    assert not is_cut(thumbnail(shot), thumbnail(walked))
    assert not is_cut(thumbnail(shot), thumbnail(shot // 8 * 7))  # clouds


def test_maps_are_steady_where_the_picture_rests_and_new_where_it_moves():
    shot = picture(0)
    walked = shot.copy()
    walked[40:140, 100:180] ^= 255
    moved = change(thumbnail(shot), thumbnail(walked), shot.shape[:2])
    before, after = np.zeros(shot.shape[:2], np.float32), np.ones(shot.shape[:2], np.float32)
    mixed = blended(before, after, moved, 0.75)
    assert (mixed[45:135, 105:175] == 1).all()
    np.testing.assert_allclose(mixed[:, 220:], 0.25)


def test_noise_of_a_map_is_less_where_the_picture_rests():
    rng = np.random.default_rng(0)
    still = np.zeros((20, 20), np.float32)
    state = rng.normal(0, 1, (20, 20, 3)).astype(np.float32)
    for _ in range(30):
        state = blended(state, rng.normal(0, 1, (20, 20, 3)).astype(np.float32), still, 0.75)
    assert state.std() < 0.5


def test_what_is_not_finite_is_not_carried_on():
    before, after = np.float32([[np.inf, 1]]), np.float32([[2, np.inf]])
    np.testing.assert_array_equal(blended(before, after, np.zeros((1, 2), np.float32), 0.5), after)


def test_maps_of_two_sizes_do_not_blend():
    with pytest.raises(ValueError, match="start anew"):
        blended(*np.zeros((2, 3, 3), np.float32), np.zeros((2, 2), np.float32), 0.5)

import numpy as np
import pytest

from sapiens_core.hog import hog_candidates
from sapiens_core.people import people
from sapiens_core.step_settings import StepSettings

SETTINGS = StepSettings((640, 640), 4, fit="letterbox")
GROUPS = {
    "one": [(320, 440, 360)],
    "two": [(160, 440, 360), (460, 400, 300)],
    "three small ones": [(150, 230, 170), (320, 230, 170), (500, 230, 170)],
}


def centers(persons):
    return [(x, foot - height / 2) for x, foot, height in persons]


@pytest.mark.parametrize("group", GROUPS)
def test_everybody_is_found_once_and_where_they_stand(group, picture_of_people):
    bboxes, scores = people(picture_of_people(GROUPS[group]), hog_candidates, SETTINGS)
    assert len(bboxes) == len(GROUPS[group])
    found = sorted(((bboxes[:, :2] + bboxes[:, 2:]) / 2).tolist())
    np.testing.assert_allclose(found, centers(GROUPS[group]), atol=0.2 * GROUPS[group][0][2])
    assert ((scores > 0.3) & (scores < 1)).all()


@pytest.mark.parametrize("factor", [0.125, 2.5])
def test_the_size_of_the_picture_is_of_no_account(factor, picture_of_people):
    person, hw = (320 * factor, 440 * factor, 360 * factor), (int(480 * factor), int(640 * factor))
    bboxes, _ = people(picture_of_people([person], hw), hog_candidates, SETTINGS)
    assert len(bboxes) == 1
    np.testing.assert_allclose(
        (bboxes[0, :2] + bboxes[0, 2:]) / 2, (320 * factor, 260 * factor), atol=80 * factor
    )


@pytest.mark.parametrize("shade", [0, 128, 255])
def test_there_is_nobody_in_an_empty_picture(shade):
    bboxes, scores = people(np.full((480, 640, 3), shade, np.uint8), hog_candidates, SETTINGS)
    assert (bboxes.shape, scores.shape) == ((0, 4), (0,))


def test_images_of_a_batch_are_searched_one_by_one(picture_of_people):
    pixels = np.stack([picture_of_people(GROUPS[group]) for group in GROUPS])
    together = hog_candidates(pixels)
    for index in range(len(pixels)):
        for batch, alone in zip(together, hog_candidates(pixels[index : index + 1]), strict=True):
            np.testing.assert_array_equal(batch[index], alone[0])
    assert (np.diff(together[1], axis=1) <= 0).all()

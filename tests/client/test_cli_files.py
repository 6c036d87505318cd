from __future__ import annotations

from pathlib import Path

import pytest

from sapiens_client import InvalidInputError
from sapiens_client.cli_files import ImageFile, check_images, image_files
from sapiens_client.saving import Format


@pytest.fixture
def photos(tmp_path) -> Path:
    return folder_of(tmp_path / "photos", "b.png", "a.JPG", "notes.txt")


def folder_of(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def names(*images: Path) -> list[str]:
    check_images(images)
    return [image.name for image in image_files(images)]


def test_a_folder_stands_for_its_images_in_order(photos):
    assert [image.path for image in image_files([photos])] == [photos / "a.JPG", photos / "b.png"]


def test_every_image_counts_once(photos):
    assert names(photos / "b.png", photos, photos / "b.png", photos) == ["b.png", "a.JPG"]


def test_folders_are_read_when_it_is_their_turn(photos):
    images = image_files([photos / "b.png", photos])
    assert next(images).name == "b.png"
    (photos / "later.webp").touch()
    assert [image.name for image in images] == ["a.JPG", "later.webp"]


def test_a_folder_without_images_is_an_error(tmp_path):
    with pytest.raises(InvalidInputError, match=r"JPEG, .* got none in '.*test_a_folder"):
        check_images([tmp_path])


@pytest.mark.parametrize("newcomers", [["a.png"], ["a.bmp", "A.JPG", "0.jpg"]])
def test_names_stay_when_the_folder_grows(photos, newcomers):
    before = names(photos)
    folder_of(photos, *newcomers)
    assert {*before, *newcomers} == {*names(photos)}


def test_images_of_one_stem_have_results_of_their_own(photos):
    folder_of(photos, "a.png", "b.webp")
    assert names(photos) == ["a.JPG", "a.png", "b.png", "b.webp"]


def test_results_of_several_folders_stand_in_folders(photos, tmp_path):
    other = folder_of(tmp_path / "other", "a.JPG", "c.png")
    missing = tmp_path / "missing.jpg"
    expected = ["photos/a.JPG", "photos/b.png", "missing.jpg", "other/a.JPG", "other/c.png"]
    assert names(photos, missing, other) == expected


@pytest.mark.parametrize(
    ("one", "other"), [("x/a.jpg", "y/a.jpg"), ("x", "y/x"), ("x", "y/a.jpg"), ("y/a.jpg", "x")]
)
def test_no_result_may_overwrite_another(tmp_path, one, other):
    for folder in ("x", "y", "y/x"):
        folder_of(tmp_path / folder, "a.jpg")
    with pytest.raises(InvalidInputError, match=r"differ in name, got '.*[xy].*' and '.*[xy].*'"):
        check_images([tmp_path / one, tmp_path / other])


@pytest.mark.parametrize(
    ("name", "image_id"), [("000139.jpg", 139), ("a.jpg", "a.jpg"), ("1_2.png", "1_2.png")]
)
def test_coco_knows_images_by_their_numbers_else_by_their_names(name, image_id):
    assert ImageFile(Path(name), name).image_id == image_id


def test_an_image_is_done_once_all_files_of_all_formats_are_there(tmp_path):
    image, wanted = ImageFile(Path("a.jpg"), "a.jpg"), (Format.NPY, Format.PNG16)
    for name in ("a.jpg_depth.npy", "a.jpg_depth.16.png", "a.jpg_depth.16.json"):
        assert not image.is_done(tmp_path, ["depth"], wanted)
        (tmp_path / name).touch()
    assert image.is_done(tmp_path, ["depth"], wanted)
    assert not image.is_done(tmp_path, ["depth", "normal"], wanted)

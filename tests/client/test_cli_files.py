from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from sapiens_client import InvalidInputError
from sapiens_client.cli.files import ImageFile, ImageFiles, listed
from sapiens_client.results.saving import Format


@pytest.fixture
def photos(tmp_path) -> Path:
    return folder_of(tmp_path / "photos", "b.png", "a.JPG", "notes.txt")


def folder_of(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def names(*images: Path, recursive: bool = False) -> list[str]:
    files = ImageFiles(images, recursive=recursive)
    files.check()
    return [image.name for image in files]


def left_out(*images: Path, recursive: bool = False) -> str:
    found: Counter[str] = Counter()
    assert [*ImageFiles(images, recursive=recursive).found(found)]
    return listed(found)


def test_a_folder_stands_for_its_images_in_order(photos):
    assert [image.path for image in ImageFiles([photos])] == [photos / "a.JPG", photos / "b.png"]


def test_every_image_counts_once(photos, monkeypatch):
    monkeypatch.chdir(photos)
    again = Path("../photos/b.png")
    assert names(photos / "b.png", photos, photos / "b.png", photos, again) == ["b.png", "a.JPG"]


def test_folders_are_read_when_it_is_their_turn(photos):
    images = iter(ImageFiles([photos / "b.png", photos]))
    assert next(images).name == "b.png"
    (photos / "later.webp").touch()
    assert [image.name for image in images] == ["a.JPG", "later.webp"]


def test_a_folder_without_images_is_an_error(tmp_path):
    with pytest.raises(InvalidInputError, match=r"hold images, got none in '.*test_a_folder"):
        ImageFiles([tmp_path]).check()


def test_a_folder_with_results_alone_is_an_error_that_tells(tmp_path):
    folder_of(tmp_path, "a.jpg_depth.png", "sub/a.jpg")
    with pytest.raises(InvalidInputError, match=r"1 folders \(--recursive.*1 results of earlier runs"):
        ImageFiles([tmp_path]).check()


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
    ("images", "expected"),
    [
        (["x/a.jpg", "y/a.jpg"], ["x/a.jpg", "y/a.jpg"]),
        (["x/a.jpg", "y/b.jpg"], ["a.jpg", "b.jpg"]),
        (["y/x/a.jpg", "y/a.jpg"], ["x/a.jpg", "a.jpg"]),
        (["x", "y/x"], ["x/a.jpg", "y/x/a.jpg"]),
        (["y", "y/x"], ["a.jpg", "b.jpg", "x/a.jpg"]),
        (["x", "y/a.jpg"], ["x/a.jpg", "y/a.jpg"]),
        (["y/a.jpg", "x"], ["y/a.jpg", "x/a.jpg"]),
    ],
)
def test_no_result_overwrites_another(tmp_path, images, expected):
    folder_of(tmp_path, "x/a.jpg", "y/a.jpg", "y/b.jpg", "y/x/a.jpg")
    assert names(*(tmp_path / image for image in images)) == expected


def test_names_do_not_depend_on_where_the_command_runs(tmp_path, monkeypatch):
    folder_of(tmp_path, "x/a.jpg", "y/a.jpg")
    monkeypatch.chdir(tmp_path / "x")
    assert names(Path("a.jpg"), Path("../y/a.jpg")) == ["x/a.jpg", "y/a.jpg"]
    assert names(Path(), Path("../y")) == ["x/a.jpg", "y/a.jpg"]


def test_folders_of_folders_are_taken_when_asked_for(tmp_path):
    folder_of(tmp_path, "a.jpg", "sub/a.jpg", "sub/deep/b.png")
    (tmp_path / "sub" / "back").symlink_to(tmp_path)
    assert names(tmp_path) == ["a.jpg"]
    assert names(tmp_path, recursive=True) == ["a.jpg", "sub/a.jpg", "sub/deep/b.png"]
    assert left_out(tmp_path) == "1 folders (--recursive takes what is in them)"
    assert left_out(tmp_path, recursive=True) == "1 linked folders"


def test_what_phones_and_the_web_make_is_taken_and_the_rest_is_told(tmp_path):
    made = [
        f"1.{suffix}" for suffix in ["jfif", "jpe", "mpo", "HEIC", "heif", "avif", "gif", "jp2", "ppm", "ico"]
    ]
    folder_of(tmp_path, *made, "a.txt", "b.TXT", "nameless", ".hidden.jpg", "._1.gif")
    assert {*names(tmp_path)} == {*made}
    words = "1 .TXT (no images), 1 .txt (no images), 2 hidden, 1 nameless (no images)"
    assert left_out(tmp_path) == words


@pytest.mark.parametrize(
    "result",
    [
        "a.JPG_depth.png",
        "a.jpg_depth_v1.5.png",
        "a.jpg_depth_v1.5.16.png",
        "a.jpg_pose_0.3b.png",
        "b.png_seg.ids.png",
        "gone.webp_depth.16.png",
        "b.png_depth_2b.png",
        "b.PNG_people.png",
    ],
)
def test_results_are_no_images(photos, result):
    folder_of(photos, result)
    assert names(photos) == ["a.JPG", "b.png"]
    assert "1 results of earlier runs" in left_out(photos)


@pytest.mark.parametrize(
    "image", ["my_depth.png", "a_seg.png", "depth.png", "b.png_of_me.png", "a.txt_depth.png"]
)
def test_images_of_similar_names_are_images(photos, image):
    assert image in names(folder_of(photos, image))


def test_results_that_a_pattern_of_the_shell_names_are_no_images(photos):
    folder_of(photos, "b.png_depth.png", "gone.png_depth.png")
    assert names(*photos.glob("b*.png")) == ["b.png"]
    assert names(photos / "gone.png_depth.png") == ["gone.png_depth.png"]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["000139.jpg", "2.jpg"], [139, 2]),
        (["000139.jpg", "a.jpg"], ["000139.jpg", "a.jpg"]),
        (["007.jpg", "7.jpg"], ["007.jpg", "7.jpg"]),
        (["1.jpg", "1.png"], ["1.jpg", "1.png"]),
        (["1_2.png"], ["1_2.png"]),
        (["\u0661.png", "1.png"], ["1.png", "\u0661.png"]),
        (["1" * 19 + ".png", "1.png"], ["1.png", "1" * 19 + ".png"]),
    ],
)
def test_coco_knows_images_by_their_numbers_else_by_their_names(tmp_path, files, expected):
    images = ImageFiles([folder_of(tmp_path / "photos", *files)])
    is_number = images.have_numbers()
    assert [image.image_id(is_number=is_number) for image in images] == expected


def test_coco_ids_of_several_folders_are_distinct_and_of_one_type(tmp_path):
    folder_of(tmp_path, "a/1.jpg", "b/1.jpg", "b/1.png", "b/007.jpg", "b/7.jpg")
    images = ImageFiles([tmp_path / "a", tmp_path / "b"])
    ids = [image.image_id(is_number=images.have_numbers()) for image in images]
    assert ids == ["a/1.jpg", "b/007.jpg", "b/1.jpg", "b/1.png", "b/7.jpg"]


def test_an_image_is_done_once_all_files_of_all_formats_are_there(tmp_path):
    image, wanted = ImageFile(Path("a.jpg"), "a.jpg"), (Format.NPY, Format.PNG16)
    for name in ("a.jpg_depth.npy", "a.jpg_depth.16.png", "a.jpg_depth.16.json"):
        assert not image.is_done(tmp_path, ["depth"], wanted)
        (tmp_path / name).touch()
    assert image.is_done(tmp_path, ["depth"], wanted)
    assert not image.is_done(tmp_path, ["depth", "normal"], wanted)


@pytest.mark.parametrize("name", ["\u5199" * 82, "x" * 250, "nul\0byte"])
def test_a_name_that_no_result_can_have_is_not_done(tmp_path, name):
    assert not ImageFile(Path(name), name).is_done(tmp_path, ["depth"], (Format.PICTURE,))

import errno
import os

import pytest

from sapiens_core.contract.folders import ModelFolders, model_folders


def test_models_what_looks_like_one_and_the_rest_are_told_apart(tmp_path):
    for name in (
        "depth/1",
        "old/2",
        "lost+found",
        ".git/1",
        ".models-export-abcdefgh/depth/1",
        "notes/draft",
    ):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "depth" / "config.pbtxt").write_text("")
    (tmp_path / "README").write_text("")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    assert model_folders(tmp_path) == ModelFolders(
        ("depth",), ("old",), (".git", ".models-export-abcdefgh", "lost+found", "notes")
    )


def test_a_folder_named_like_the_config_is_none(tmp_path):
    (tmp_path / "depth" / "config.pbtxt").mkdir(parents=True)
    assert model_folders(tmp_path).foreign == ("depth",)


def test_models_may_be_links(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "config.pbtxt").write_text("")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "depth").symlink_to(tmp_path / "elsewhere")
    assert model_folders(tmp_path / "models").models == ("depth",)


@pytest.mark.parametrize("name", ["nowhere", "file"])
def test_what_is_no_folder_has_nothing(name, tmp_path):
    (tmp_path / "file").write_text("")
    assert model_folders(tmp_path / name) == ModelFolders((), (), ())


@pytest.fixture
def closed(monkeypatch):
    """A function (path) that keeps this user, who may be root, from listing a folder."""
    scandir, paths = os.scandir, []

    def refusing(folder):
        if folder in paths:
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    return paths.append


def test_what_may_not_be_read_is_no_foreign_folder(closed, tmp_path):
    for name in ("depth", "lost+found", "notes"):
        (tmp_path / name).mkdir()
    closed(tmp_path / "depth")
    closed(tmp_path / "lost+found")
    folders = model_folders(tmp_path)
    assert folders == ModelFolders((), (), ("notes",), ("depth", "lost+found"))
    assert folders.left_out() == (
        "notes, without a config.pbtxt; depth, lost+found, that this user may not read"
    )


def test_a_repository_that_may_not_be_read_says_so(closed, tmp_path):
    closed(tmp_path)
    with pytest.raises(PermissionError):
        model_folders(tmp_path)


def test_a_link_that_leads_nowhere_hides_no_model(tmp_path):
    (tmp_path / "depth").mkdir()
    (tmp_path / "depth" / "config.pbtxt").write_text("")
    (tmp_path / "round").symlink_to("round")
    assert model_folders(tmp_path).models == ("depth",)

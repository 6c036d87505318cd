"""Folders in a repository that are no models: volumes, tools and interrupted exports make them."""

import errno
import os
import shutil

import pytest
from real_servers import running

from sapiens_server import RepositoryError, ServerOptions, serve
from sapiens_server.repository import checked_folders, left_out

FOREIGN = ("lost+found", ".git", ".models-export-abcdefgh", ".snapshot/1", "notes")


@pytest.fixture
def repository(tmp_path):
    """Two models that need no network, among folders that are none."""
    models = tmp_path / "models"
    for name in ("one", "two"):
        (models / name / "1").mkdir(parents=True)
        config = 'backend: "python" instance_group { kind: KIND_CPU } max_batch_size: 0'
        (models / name / "config.pbtxt").write_text(f'name: "{name}" {config}')
        code = "class TritonPythonModel:\n    def execute(self, requests):\n        return []\n"
        (models / name / "1" / "model.py").write_text(code)
    for name in FOREIGN:
        (models / name).mkdir(parents=True)
    return models


def test_models_are_served_whatever_lies_among_them_and_that_is_named(repository):
    lines = []
    with running(repository, grpc_port=0, on_log=lines.append) as server:
        assert server.models == ("one", "two")
    (warning,) = [line for line in lines if line.startswith("warning: left out of ")]
    for name in FOREIGN:
        assert name.partition("/")[0] in warning


def test_models_are_loaded_on_demand_whatever_lies_among_them(repository):
    with running(repository, grpc_port=0, options=ServerOptions("explicit")) as server:
        assert server.models == ()


def test_a_folder_that_cannot_be_followed_is_refused_with_what_is_in_the_way(repository):
    with pytest.raises(RepositoryError, match=r"models alone, but .*\.git, .*lost\+found, notes; remove"):
        serve(repository, grpc_port=0, options=ServerOptions("poll"))


def test_what_looks_like_a_model_is_missed(repository):
    (repository / "old" / "1").mkdir(parents=True)
    with pytest.raises(RepositoryError, match=r"must have a config\.pbtxt, in .*models old have none"):
        serve(repository, grpc_port=0)


def test_models_that_an_interrupted_export_has_are_told(repository):
    staging = repository.parent / ".models-export-abcdefgh"
    staging.mkdir()
    (staging / ".moving").write_text('["three"]')
    lines = []
    with running(repository, grpc_port=0, on_log=lines.append):
        pass
    (warning,) = [line for line in lines if "was interrupted" in line]
    assert str(staging) in warning
    shutil.rmtree(repository)
    with pytest.raises(RepositoryError, match=r"is no folder; .*was interrupted, .*\.models-export-abcdefgh"):
        serve(repository, grpc_port=0)


@pytest.mark.parametrize("name", ["", " "])
def test_no_name_is_not_the_working_directory(name, repository, monkeypatch):
    monkeypatch.chdir(repository)
    with pytest.raises(RepositoryError, match=f"must have a name, got '{name}'; is a variable not set"):
        serve(name, grpc_port=0)


def test_what_may_not_be_read_is_named_as_such(repository, monkeypatch):
    scandir, closed = os.scandir, [repository / "two"]

    def refusing(folder):
        if folder in closed:
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    warning = left_out(repository, checked_folders(repository, "none"))
    assert warning.endswith("notes, without a config.pbtxt; two, that this user may not read")
    closed.append(repository)
    with pytest.raises(RepositoryError, match=r"must be readable, but this user may not read .*models: Perm"):
        serve(repository, grpc_port=0)

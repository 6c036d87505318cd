"""The check of licences itself; `make test-deploy` runs it, and asks for advisories, before the tests."""

from __future__ import annotations

from importlib.metadata import PathDistribution

import pytest

from scripts.dependencies import EXTRAS, needed, refused


@pytest.fixture
def installed(tmp_path):
    """A function (lines of metadata) -> a distribution that has them."""

    def made(*lines: str) -> dict[str, PathDistribution]:
        folder = tmp_path / "made.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            "\n".join(["Metadata-Version: 2.4", "Name: made", "Version: 1", *lines])
        )
        return {"made": PathDistribution(folder)}

    return made


@pytest.mark.parametrize(
    ("line", "is_fine"),
    [
        ("License-Expression: Apache-2.0 AND MIT", True),
        ("Classifier: License :: OSI Approved :: BSD License", True),
        ("License: 3-Clause BSD License", True),
        ("License-Expression: MIT AND GPL-3.0-only", False),
        ("Classifier: License :: OSI Approved :: GNU Affero General Public License v3", False),
        ("License: LGPL", False),
        ("License: ask us", False),
        ("Summary: of no licence", False),
    ],
)
def test_only_permissive_licences_pass(line, is_fine, installed):
    assert ("made" not in refused(installed(line))) is is_fine


def test_what_extras_need_is_looked_at_and_developers_tools_are_not():
    names = needed("sapiens-triton", EXTRAS).keys()
    assert {"numpy", "grpcio", "torch", "nvidia-pytriton", "pyzmq"} <= names
    assert not {"pytest", "ruff", "sapiens-triton"} & names


def test_everything_that_is_installed_may_be_used():
    assert refused(needed("sapiens-triton", EXTRAS)) == {}

"""An engine of one repository, installed in another one as well."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sapiens_core.contract.folders import CONFIG_FILE
from sapiens_export.repository.manifest import MANIFEST_FILE, installed_engine, read_manifest
from sapiens_export.repository.staging import staging_folder
from sapiens_export.repository.write import VERSION_FOLDER, Written, write_models

if TYPE_CHECKING:
    from pathlib import Path

_WRITTEN_ANEW = (CONFIG_FILE, MANIFEST_FILE)


def copy_engine(engine: Path, repository: Path) -> Written:
    """Install an engine that another repository holds, with everything that serves it.

    Its files are linked, not copied, so both repositories must be on one file system.

    Args:
        engine: Folder of the engine's model in the other repository.
        repository: Folder of models; made if it is missing.

    Raises:
        ValueError: There is no such engine, or the repository cannot take it.
        OSError: Its files cannot be linked.
    """
    new, facts = installed_engine(engine), read_manifest(engine)
    with staging_folder(repository) as folder:
        files, beside = folder / "engine", folder / "beside"
        _link(engine / VERSION_FOLDER, files)
        _link(engine, beside)
        figures = {measure["name"]: measure["value"] for measure in facts["parity"]["measures"]}
        return write_models(repository, new, engine=files, beside=beside, facts=facts, parity=figures)


def _link(source: Path, target: Path) -> None:
    """Link the files of a folder, but for those that are written anew with the models."""
    target.mkdir()
    for file in sorted(source.iterdir()):
        if file.is_file() and file.suffix != ".py" and file.name not in _WRITTEN_ANEW:
            os.link(file, target / file.name)

"""Published weights for an export: looked up, agreed to, fetched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sapiens_export.weights.hub import Hub, download_checkpoint
from sapiens_export.weights.licences import require_licence
from sapiens_export.weights.zoo import ZooEntry


@dataclass(frozen=True)
class OfficialCheckpoint:
    """Published weights on this machine.

    Attributes:
        path: The file.
        entry: What it is.
        revision: Commit of the hub's repository that it is from; None: not known.
    """

    path: Path
    entry: ZooEntry
    revision: str | None

    @property
    def origin(self) -> dict[str, str | None]:
        """Where the file comes from, for the manifest."""
        file = self.entry.file
        return {
            "hub_repository": file.repository,
            "hub_file": file.path,
            "hub_revision": self.revision,
        }


def checkpoint_from_zoo(
    entry: ZooEntry,
    *,
    accept_licence: bool = False,
    mirror: Path | None = None,
    ask: Callable[[str], bool] | None = None,
    hub: Hub | None = None,
) -> OfficialCheckpoint:
    """Get the published weights of a released network, once the user accepts their licence.

    Args:
        entry: Which.
        accept_licence: The user accepts the licence of the weights.
        mirror: Folder with copies, used instead of the hub.
        ask: Shows a question and returns the answer; None: there is nobody to ask.
        hub: Where from; None: as the environment says.

    Raises:
        ValueError: Their licence is not accepted, or the file is damaged.
        DownloadError: The hub does not give the file.
    """
    require_licence(entry.licence, entry.file.repository, accepted=accept_licence, ask=ask)
    download = download_checkpoint(entry.file, mirror=mirror, hub=hub)
    return OfficialCheckpoint(download.path, entry, download.revision)

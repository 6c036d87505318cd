"""Weight files from the Hugging Face hub, or from a folder with copies of them.

Cache, resuming, progress bar, and the variables HF_ENDPOINT, HF_HOME, HF_HUB_OFFLINE and HF_TOKEN are those
of `huggingface_hub`; this adds a check of every file's hash, and says what went wrong in a sentence.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import (
    constants,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from sapiens_export.disk import DiskFullError, told_if_full
from sapiens_export.weights.zoo import HubFile

# The root of what the HTTP library beneath raises; which library that is has changed between releases.
_HTTP_ERROR: type[Exception] = HfHubHTTPError.__bases__[0]
_SHA256 = re.compile(r"[0-9a-f]{64}")
_REFUSALS = (401, 403)
_XET_SWITCH = "HF_HUB_DISABLE_XET"


class DownloadError(OSError):
    """The hub does not give a file; the message says why and what to do."""


@dataclass(frozen=True)
class Hub:
    """Where files come from and go to.

    Attributes:
        endpoint: Address; None: HF_ENDPOINT, else the public one.
        cache: Folder of downloaded files; None: that of `huggingface_hub`.
        token: Access token; None: HF_TOKEN, or what `hf auth login` has stored.
    """

    endpoint: str | None = None
    cache: Path | None = None
    token: str | None = None


@dataclass(frozen=True)
class Download:
    """A weight file on this machine.

    Attributes:
        path: The file.
        revision: Commit of the hub's repository that it is from; None: a mirror does not tell.
    """

    path: Path
    revision: str | None


def download_checkpoint(file: HubFile, *, mirror: Path | None = None, hub: Hub | None = None) -> Download:
    """Get a weight file, from the cache if it is there.

    The hub names large files by their SHA-256, and so does the cache: a file whose content has another one is
    removed. A cached file is used without asking the hub. A mirror has no hashes to compare with.

    Args:
        file: What to get.
        mirror: Folder with copies, used instead of the hub: `OWNER/NAME/FILE`, or just `FILE`.
        hub: Where from; None: as the environment says.

    Raises:
        ValueError: The mirror has no such file, or the content is not what the hub published.
        DownloadError: There is no such file on the hub, it may not be had, or the way there is barred.
    """
    if mirror is not None:
        return Download(mirrored_file(file, mirror), revision=None)
    hub = hub or Hub()
    path = _cached(file, hub)
    if path is None:
        with _explained(file, hub):
            path = _fetched(file, hub)
    _verify(path, file)
    return Download(path, revision=_revision(path, file))


def cached_sha256(file: HubFile, *, hub: Hub | None = None) -> str | None:
    """Return the hash of a weight file in the cache, which is not read for that; None: it is not there.

    Args:
        file: What is wanted.
        hub: Whose cache; None: as the environment says.
    """
    path = _cached(file, hub or Hub())
    if path is None or not path.is_symlink():
        return None
    blob = path.readlink().name
    return blob if _SHA256.fullmatch(blob) else None


def mirrored_file(file: HubFile, mirror: Path) -> Path:
    """Return the copy of a file that a mirror holds.

    Args:
        file: As the hub calls it.
        mirror: Folder with `OWNER/NAME/FILE`, or just `FILE`.

    Raises:
        ValueError: The mirror has no such file.
    """
    candidates = list(
        dict.fromkeys([mirror / file.repository / file.path, mirror / file.path, mirror / file.name])
    )
    for path in candidates:
        if path.is_file():
            return path
    looked = ", ".join(map(str, candidates))
    raise ValueError(
        f"mirror must hold {file.name}, there is none at {looked}; copy the file to one of these"
    )


def _cached(file: HubFile, hub: Hub) -> Path | None:
    path = try_to_load_from_cache(file.repository, file.path, cache_dir=hub.cache, revision=file.revision)
    return Path(path) if isinstance(path, str) else None


def _fetched(file: HubFile, hub: Hub) -> Path:
    # Asked first, because the download retries for half a minute where there is no way to the hub at all.
    url = hf_hub_url(file.repository, file.path, revision=file.revision, endpoint=hub.endpoint)
    metadata = get_hf_file_metadata(url, token=hub.token, endpoint=hub.endpoint)
    if _XET_SWITCH not in os.environ:
        constants.HF_HUB_DISABLE_XET = True  # its client retries in silence for minutes where a way is barred
    cache = Path(hub.cache or constants.HF_HUB_CACHE)
    with told_if_full(cache, metadata.size or 0, "set HF_HOME to another disk"):
        path = hf_hub_download(
            file.repository,
            file.path,
            revision=file.revision,
            cache_dir=hub.cache,
            token=hub.token,
            endpoint=hub.endpoint,
        )
    return Path(path)


def _verify(path: Path, file: HubFile) -> None:
    """Compare a cached file with its hash, which is the name of the blob that it links to."""
    if not path.is_symlink():  # a cache without links keeps no hashes
        return
    blob = path.parent / path.readlink()
    if not _SHA256.fullmatch(blob.name):
        return
    with path.open("rb") as content:
        actual = hashlib.file_digest(content, "sha256").hexdigest()
    if actual == blob.name:
        return
    for damaged in (path.resolve(), blob, path):
        damaged.unlink(missing_ok=True)
    raise ValueError(
        f"{file.name} must have the SHA-256 {blob.name} that {file.repository} publishes, got {actual}; the "
        "damaged copy was removed, try again"
    )


def _revision(path: Path, file: HubFile) -> str:
    """Return the commit, which names the folder that the cache keeps the file in."""
    return path.parents[file.path.count("/")].name


@contextmanager
def _explained(file: HubFile, hub: Hub) -> Iterator[None]:
    """Turn what the hub's library raises into one sentence each."""
    try:
        yield
    except (OSError, RuntimeError, EntryNotFoundError, _HTTP_ERROR) as error:  # Runtime: of hf_xet
        reason = error.__cause__ if isinstance(error, LocalEntryNotFoundError) else error
        raise DownloadError(_explanation(reason or error, file, hub)) from error


def _explanation(error: BaseException, file: HubFile, hub: Hub) -> str:
    endpoint = (hub.endpoint or constants.ENDPOINT).rstrip("/")
    page = f"{endpoint}/{file.repository}"
    if isinstance(error, OfflineModeIsEnabled):
        return (
            f"{file.name} must be in the cache while HF_HUB_OFFLINE is set, and is not; unset it, or give a "
            "folder that holds the file with --mirror"
        )
    if isinstance(error, HfHubHTTPError):
        return _refusal(error, file, page)
    if isinstance(error, FileMetadataError):
        return (
            f"{endpoint} must be a Hugging Face hub, it answers otherwise; check HF_ENDPOINT and your proxy"
        )
    if isinstance(error, DiskFullError):
        return str(error)
    if isinstance(error, OSError) and error.errno is not None:
        return (
            f"{file.name} must be written to the cache: {error}; check it, or set HF_HOME to another folder"
        )
    if isinstance(error, _HTTP_ERROR):
        return (
            f"{endpoint} must be within reach, got {_first_line(error)!r}; check the network, set "
            "HF_ENDPOINT to a hub that is, or give a folder that holds the file with --mirror"
        )
    return f"{file.name} must arrive complete from {page}, got: {_first_line(error)}; try again"


def _refusal(error: HfHubHTTPError, file: HubFile, page: str) -> str:
    status = error.response.status_code
    if isinstance(error, GatedRepoError):
        return (
            f"access to {page} must be granted, it is not; ask for it there, and set HF_TOKEN to your token"
        )
    if isinstance(error, EntryNotFoundError | RevisionNotFoundError):
        commit = f" in its commit {file.revision}" if file.revision else ""
        guess = "; its path was inferred, see there what it is called" if file.is_inferred else ""
        return (
            f"{page} must hold {file.path}{commit}, it does not (status {status}){guess}; download the "
            "weights yourself and give them with --checkpoint"
        )
    if isinstance(error, RepositoryNotFoundError) or status in _REFUSALS:
        return (
            f"{page} must exist and be open to you, it is not (status {status}); check it in a browser, and "
            "set HF_TOKEN to a valid token, or unset it"
        )
    return (
        f"{page} must answer, got {_first_line(error)!r}; try again later, or set HF_ENDPOINT to another hub"
    )


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)

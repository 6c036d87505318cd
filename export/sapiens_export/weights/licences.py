"""Consent to the licence of weights: asked for once, before anything is downloaded, and kept."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from sapiens_core.recipes.sapiens2 import LICENCE as SAPIENS2_LICENCE

DEMO_LICENCE = "Apache-2.0: trained on rendered people by this project; not Meta's weights"
NOTICE_FILE = "LICENCE_OF_WEIGHTS.txt"


@dataclass(frozen=True)
class LicenceTerms:
    """A licence in one line.

    Attributes:
        meaning: What it comes down to.
        url: Where its text stands.
    """

    meaning: str
    url: str


TERMS: Mapping[str, LicenceTerms] = MappingProxyType(
    {
        "CC-BY-NC-4.0": LicenceTerms(
            "not for commercial use, and its authors are to be named",
            "https://creativecommons.org/licenses/by-nc/4.0/",
        ),
        SAPIENS2_LICENCE: LicenceTerms(
            "commercial use is allowed, but no surveillance, biometric processing, identifying of people, "
            "deepfakes, inferring of health or other sensitive data without consent, pornographic or "
            "defamatory use, unlicensed professional practice, or use for military, weapons, espionage or "
            "critical infrastructure; publications must acknowledge it; whoever gets the weights, or a "
            "service or model made of them, gets them under the same terms with a copy of the text; Meta "
            "may ask for records of use",
            "https://github.com/facebookresearch/sapiens2/blob/main/LICENSE.md",
        ),
    }
)


def write_notice(folder: Path, licence: str) -> None:
    """Say beside an engine what binds whoever gets it, if the licence of its weights has terms.

    Args:
        folder: Where the notice goes.
        licence: Name of the licence.
    """
    if terms := TERMS.get(licence):
        notice = (
            f"The weights of this model are licensed under {licence}: {terms.meaning}.\n"
            f"This is a summary. What binds is the text: {terms.url}\n"
            "Put a copy of it here before you hand this folder on.\n"
        )
        (folder / NOTICE_FILE).write_text(notice)


def accepted_licences_file() -> Path:
    """Return where consent is kept, among what this user has configured: on Linux in ~/.config/sapiens."""
    from platformdirs import user_config_path  # of the extra `export`; help texts do without

    return user_config_path("sapiens") / "accepted_licences.json"


def is_accepted(licence: str) -> bool:
    """Tell whether this user has accepted a licence before.

    Raises:
        ValueError: The file that would tell is damaged.
    """
    return licence in _accepted()


def accept(licence: str) -> None:
    """Remember that this user has accepted a licence.

    Raises:
        ValueError: The file with the licences accepted so far is damaged.
        OSError: It cannot be written.
    """
    path, licences = accepted_licences_file(), sorted({*_accepted(), licence})
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}-", delete=False) as file:
        try:
            file.write(json.dumps(licences, indent=2) + "\n")
            file.flush()
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def require_licence(
    licence: str, source: str, *, accepted: bool = False, ask: Callable[[str], bool] | None = None
) -> None:
    """Return if the user accepts a licence, now or before.

    Where the publisher states no licence, consent is to that publisher's weights alone.

    Args:
        licence: Its name.
        source: Where the weights come from.
        accepted: The user has accepted it in this call.
        ask: Shows a question and returns the answer; None: there is nobody to ask.

    Raises:
        ValueError: The user does not accept it.
    """
    terms = TERMS.get(licence)
    key = licence if terms else f"{licence}: {source}"
    if is_accepted(key):
        return
    notice = f"the licence of the weights from {source} is {_described(licence)}"
    if not accepted and (ask is None or not ask(f"{notice}. Do you accept it?")):
        raise ValueError(
            f"{notice}, and must be accepted before they are downloaded; read it and pass --accept-licence"
        )
    with suppress(OSError):  # a folder that cannot be written to means that the question comes again
        accept(key)


def _described(licence: str) -> str:
    terms = TERMS.get(licence)
    if terms is None:
        return f"{licence!r}: find out at the source what you may do with them"
    return f"{licence}: {terms.meaning} ({terms.url})"


def _accepted() -> list[str]:
    path = accepted_licences_file()
    if not path.is_file():
        return []
    try:
        licences = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} must be a JSON list of licences: {error}; delete it") from error
    if not isinstance(licences, list) or not all(isinstance(licence, str) for licence in licences):
        raise ValueError(f"{path} must be a JSON list of licences, got {licences!r}; delete it")
    return licences

"""Whether what is installed with this project may be used by everybody, and has no known holes.

    python -m scripts.dependencies

Looks at the installed distributions that the package and its extras need, not at the tools of developers.
Exit status 1: a licence is none of those below, or an advisory is about an installed version.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

EXTRAS = ("opencv", "heif", "video", "demo", "parquet", "interop", "server", "export", "otel")
# Licences that ask for no more than to be named; the MPL asks who changes its files to publish them.
PERMISSIVE = re.compile(
    r"Apache|MIT|BSD|ISC|PSF|Python Software Foundation|MPL-2\.0|Mozilla|ZPL|BSL-1\.0|CNRI|HPND|Unlicense"
)
_COPYLEFT = re.compile(r"\b(?:A|L)?GPL|GNU |SSPL|Commons Clause|Proprietary")


def needed(name: str, extras: Iterable[str]) -> dict[str, Distribution]:
    """Return the installed distributions that one needs, itself left out, by their names."""
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    todo = [(canonicalize_name(name), frozenset(extras))]
    while todo:
        one = todo.pop()
        if one in seen:
            continue
        seen.add(one)
        try:
            installed = distribution(one[0])
        except PackageNotFoundError:  # of an extra that is not installed here
            continue
        found[one[0]] = installed
        todo += _requirements(installed, one[1])
    del found[canonicalize_name(name)]
    return dict(sorted(found.items()))


def _requirements(installed: Distribution, extras: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
    for text in installed.requires or ():
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras or {""}):
            yield canonicalize_name(requirement.name), frozenset(requirement.extras)


def licence_of(installed: Distribution) -> str:
    """Return what a distribution says of its licence; empty: nothing."""
    words = installed.metadata
    classified = [each for each in words.get_all("Classifier") or () if each.startswith("License ::")]
    said = words.get("License-Expression") or "; ".join(each.split(" :: ")[-1] for each in classified)
    return said or (words.get("License") or "").strip().partition("\n")[0]


def refused(installed: dict[str, Distribution]) -> dict[str, str]:
    """Return the licences that are not known to be permissive, by the names of their distributions."""
    licences = {name: licence_of(one) for name, one in installed.items()}
    return {
        name: licence
        for name, licence in licences.items()
        if not PERMISSIVE.search(licence) or _COPYLEFT.search(licence)
    }


def audit(installed: dict[str, Distribution]) -> tuple[list[str], str]:
    """Ask PyPI for advisories, by pip-audit.

    Returns:
        What it says about versions with holes, a line each, and how many distributions it looked at.
    """
    pins = "".join(f"{name}=={one.version.partition('+')[0]}\n" for name, one in installed.items())
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "requirements.txt"
        file.write_text(pins)
        command = (sys.executable, "-m", "pip_audit", "--requirement", file, "--no-deps", "--disable-pip")
        done = subprocess.run([*command, "--format", "json"], capture_output=True, text=True, check=False)
    try:
        told = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        return [], f"not looked at: {(done.stderr.strip().splitlines() or ['pip-audit says nothing'])[-1]}"
    known = [each for each in told if "skip_reason" not in each]
    holes = [
        f"advisory {hole['id']} about {each['name']} {each['version']}, fixed in {hole['fix_versions']}"
        for each in known
        for hole in each["vulns"]
    ]
    if not known:
        return [], "not looked at: the advisories of PyPI cannot be had from here"
    return holes, f"{len(holes)} about {len(known)} of {len(installed)} distributions"


def main() -> int:
    """Print what is wrong."""
    installed = needed("sapiens-triton", EXTRAS)
    licences = refused(installed)
    for name, licence in licences.items():
        print(f"licence of {name}: {licence or 'not told'!r} is none of the permissive ones in {__file__}")
    print(f"licences: {len(installed) - len(licences)} of {len(installed)} distributions are permissive")
    holes, looked_at = audit(installed)
    for hole in holes:
        print(hole)
    print(f"advisories: {looked_at}")
    return 1 if licences or holes else 0


if __name__ == "__main__":
    sys.exit(main())

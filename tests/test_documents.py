"""Where the links of README and docs lead."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "training" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def anchors(page):
    headings = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page):
    text = page.read_text()
    return re.findall(r"\]\((?!https?://)([^)]+)\)", text) + re.findall(r"src=\"([^\"]+)\"", text)


def is_broken(page, link):
    path, _, anchor = link.partition("#")
    target = page.parent / path if path else page
    return not target.exists() or (bool(anchor) and anchor not in anchors(target))


def test_every_link_leads_somewhere():
    found = [(page, link) for page in PAGES for link in links(page)]
    assert len(found) > 40
    assert [(page.name, link) for page, link in found if is_broken(page, link)] == []

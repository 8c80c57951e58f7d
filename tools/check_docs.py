#!/usr/bin/env python3
"""Checks that what is cited exists: check_docs.py ROOT.

In sources, scripts and pages: every `docs/NAME.md` is there, with the section and step that are named behind it
("docs/NAME.md section 4, step 2"). In pages (README.md, docs/*.md, ...): every link to a file of the repository, and every
#heading of it. A page that is cited without its folder is a fault too.
Prints each fault as FILE:LINE: what; the last line is `N citations, N links, N faults`; exit code 1 with faults.
"""

from __future__ import annotations

import pathlib
import re
import sys

FOLDERS = ("src", "tests", "tools", "launch", "slurm", "configs", "cmake", "docs", ".ci")
SUFFIXES = {".hpp", ".cpp", ".inl", ".cu", ".cuh", ".py", ".sh", ".ini", ".cmake", ".txt", ".md", ".sbatch", ".json", ""}
CITATION = re.compile(
    r"(?P<folder>[\w./-]*/)?\b(?P<name>[a-z][a-z0-9-]*\.md)\b"
    r"(?:,? sections? (?P<section>\d+)(?:,? steps? (?P<first>\d+)(?:(?:-| to )(?P<last>\d+))?)?)?"
)
LINK = re.compile(r"\]\((?!https?:|mailto:)(?P<path>[^)#\s]*)(?:#(?P<heading>[^)\s]+))?\)")


def headings(text: str) -> set[str]:
    """The anchors of a page, as GitHub makes them."""
    found = re.findall(r"^#+ +(.+?)\s*$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


def section_of(text: str, number: str) -> str | None:
    """The text of "## NUMBER. Title"; None: there is none."""
    found = re.search(rf"^## {number}\. .*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return found and found.group(0)


def files_of(root: pathlib.Path) -> list[pathlib.Path]:
    found = [path for path in root.iterdir() if path.is_file() and path.suffix in {".md", ".txt"}]
    for folder in FOLDERS:
        found += [path for path in (root / folder).rglob("*") if path.is_file() and path.suffix in SUFFIXES]
    return sorted(path for path in found if "__pycache__" not in path.parts and "check_docs" not in path.name)


def check(root: pathlib.Path) -> tuple[list[str], int, int]:
    """(faults, citations, links)."""
    pages = {path.name: path.read_text(encoding="utf-8") for path in (root / "docs").glob("*.md")}
    faults: list[str] = []
    citations = links = 0
    for path in files_of(root):
        text = path.read_text(encoding="utf-8", errors="replace")
        for number, line in enumerate(text.splitlines(), 1):
            place = f"{path.relative_to(root)}:{number}"
            if path.suffix == ".md":
                for link in LINK.finditer(line):
                    links += 1
                    target = path.parent / link["path"] if link["path"] else path
                    if not target.exists():
                        faults.append(f"{place}: {link['path']} is not there")
                    elif link["heading"] and link["heading"] not in headings(target.read_text(encoding="utf-8")):
                        faults.append(f"{place}: {link['path']} has no heading #{link['heading']}")
                line = LINK.sub("]", line)
            for cited in CITATION.finditer(line):
                folder, name = cited["folder"] or "", cited["name"]
                if folder != "docs/" and (folder or cited["section"] is None or name not in pages):
                    continue  # another tree's page
                citations += 1
                if folder != "docs/" and path.parent.name != "docs":
                    faults.append(f"{place}: {name} is cited without its folder docs/")
                elif name not in pages:
                    faults.append(f"{place}: docs/{name} is not there")
                elif cited["section"]:
                    section = section_of(pages[name], cited["section"])
                    if section is None:
                        faults.append(f"{place}: docs/{name} has no section {cited['section']}")
                    elif cited["first"]:
                        for step in {cited["first"], cited["last"] or cited["first"]}:
                            if not re.search(rf"^{step}\. ", section, re.MULTILINE):
                                faults.append(f"{place}: docs/{name} section {cited['section']} has no step {step}")
    return faults, citations, links


def main() -> int:
    faults, citations, links = check(pathlib.Path(sys.argv[1]))
    for fault in faults:
        print(fault)
    print(f"{citations} citations, {links} links, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Which sources may be compiled as one, for VIXEN_UNITY (cmake/VixenModule.cmake): unity_groups.py LINES FILE.cpp...

Prints a number for each file, in the order given: files of one number make one translation unit of about LINES lines. Two files
that define the same name for themselves (in an anonymous namespace, by `static`, as a macro or by a using-declaration) never
share one: what a file calls its helpers is its own business. Reads the layout that clang-format gives: what a namespace holds
begins in the first column.
"""

from __future__ import annotations

import pathlib
import re
import sys

IDENTIFIER = r"[A-Za-z_]\w*"
OPENS = re.compile(r"^namespace \{")
CLOSES = re.compile(r"^\}  // namespace$")
# The names that a line which begins in the first column defines: "... NAME(", "... NAME =", "struct NAME {", "using NAME =".
DEFINES = re.compile(
    rf"(?:\b(?:struct|class|enum class|enum|union|using|concept|namespace)\s+({IDENTIFIER}))|({IDENTIFIER})\s*(?:\(|\{{|=|;|\[)"
)
MACRO = re.compile(rf"^\s*#\s*define\s+({IDENTIFIER})", re.MULTILINE)
USING = re.compile(rf"^using (?:namespace )?(?:{IDENTIFIER}::)*({IDENTIFIER})(?:;| =)", re.MULTILINE)
STATIC = re.compile(rf"^static .*?({IDENTIFIER})\s*(?:\(|\{{|=|;|\[)", re.MULTILINE)


def own_names(text: str) -> set[str]:
    """What a source defines for itself alone; more names than there are do no harm."""
    names = set(MACRO.findall(text)) | set(USING.findall(text)) | set(STATIC.findall(text))
    inside = False
    for line in text.splitlines():
        if OPENS.match(line):
            inside = True
        elif CLOSES.match(line):
            inside = False
        elif inside and re.match(r"[A-Za-z_]", line):
            names.update(name for pair in DEFINES.findall(line.split("//")[0]) for name in pair if name)
    return names


def groups(texts: list[str], lines: int) -> list[int]:
    """The group of each text: the largest first, each into the smallest group that has room and none of its names."""
    found: list[int] = [0] * len(texts)
    sizes: list[int] = []
    names: list[set[str]] = []
    for index in sorted(range(len(texts)), key=lambda i: (-texts[i].count("\n"), i)):
        size, own = texts[index].count("\n"), own_names(texts[index])
        fitting = [g for g in range(len(sizes)) if sizes[g] + size <= lines and not names[g] & own]
        if not fitting:
            sizes.append(0)
            names.append(set())
            fitting = [len(sizes) - 1]
        group = min(fitting, key=lambda g: sizes[g])
        sizes[group] += size
        names[group] |= own
        found[index] = group
    return found


def main() -> int:
    texts = [pathlib.Path(name).read_text(encoding="utf-8") for name in sys.argv[2:]]
    print(";".join(str(group) for group in groups(texts, int(sys.argv[1]))))
    return 0


if __name__ == "__main__":
    sys.exit(main())

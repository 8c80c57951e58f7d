#!/usr/bin/env python3
"""Checks that every key that a command of vixen accepts is read by the code which that command runs.

    check_config_reads.py VIXEN [SRC]     prints one line a fault and exits with 1 when there is any
    check_config_reads.py --reads [SRC]   prints, for each command, the keys that its code reads

Accepted keys are what `VIXEN COMMAND --help` documents. What a command's code reads is found in the text of src/: from main's
run_job() and from NAME_command() on, it follows every function whose name the code on the way holds, and every method so named of
every class so named. In what it reaches, `config.section.member` is a read unless it is assigned to; so is `name.member` where the
function, or its class, declares `name` as the struct of a section (`const TrainConfig& train`, `const auto& train = config.train`), and
`&TrainConfig::lr`. The parser and the key table (src/config) hold every key and count for nothing, as does handing a whole section on.
Names that a macro pastes together from the rows of an included table count as written.
The search may reach too much, by a name that two functions share; it reaches too little only through a pointer that no reached code
names.
"""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys
from dataclasses import dataclass, field

SOURCES = {".hpp", ".cpp", ".inl", ".cu", ".cuh"}
COMMENT = re.compile(r'"(?:\\.|[^"\\\n])*"|//[^\n]*|/\*.*?\*/', re.DOTALL)
WORD = re.compile(r"\b[A-Za-z_]\w*\b")
CHAIN = re.compile(r"(?<![\w.>])((?:[A-Za-z_]\w*(?:\.|->))+[A-Za-z_]\w*)\b(?!\s*=[^=])")


@dataclass
class Section:
    """A struct of config.hpp and the member of Config that holds it."""

    name: str  # of its keys: "template"
    member: str  # of Config: "prompt"
    structs: list[str]  # "TemplateConfig", and what it inherits from
    keys: list[str]


@dataclass
class Block:
    """A definition at namespace scope: a function, a class, a table."""

    name: str
    owner: str  # the class that it is a method of, or ""
    text: str
    words: set[str] = field(default_factory=set)
    reads: set[str] = field(default_factory=set)

    def is_reached(self, words: set[str]) -> bool:
        """Whether code that holds these words may run it. Constructors and operators are called without their names."""
        if self.owner and self.owner not in words:
            return False
        return self.name in words or self.name.lstrip("~") == self.owner or self.name.startswith("operator")


def without_comments(text: str) -> str:
    return COMMENT.sub(lambda found: '""' if found[0].startswith('"') else " ", text)


def read_sections(src: pathlib.Path) -> list[Section]:
    """The sections as config.hpp declares them; keys without a section are those of a Section named ""."""
    text = without_comments((src / "config" / "config.hpp").read_text(encoding="utf-8"))
    declared = re.findall(r"^struct (\w+)(?: : (\w+))? \{(.*?)^\};", text, re.DOTALL | re.MULTILINE)
    structs = {name: (base, body) for name, base, body in declared}
    members = re.compile(r"^  [\w:<>, ]+?[ >](\w+?)(?: = [^;]*|\{[^;]*\})?;", re.MULTILINE)
    sections = []
    plain = []
    for line in structs["Config"][1].splitlines():
        found = re.match(r"  (\w+Config) (\w+);", line)
        if found:
            struct, member = found.groups()
            name = {"prompt": "template"}.get(member, member.rstrip("_"))
            chain = [struct]
            while base := structs[chain[-1]][0]:
                chain.append(base)
            sections.append(Section(name, member, chain, [key for part in chain for key in members.findall(structs[part][1])]))
        elif found := members.match(line):
            plain.append(found[1])
    return [Section("", "", ["Config"], [key for key in plain if key not in ("command", "files")]), *sections]


def blocks_of(text: str) -> list[Block]:
    """Definitions at namespace scope of a file that clang-format has laid out: they begin and end in the first column."""
    blocks = []
    lines = without_comments(text).split("\n")
    begin = None
    for number, line in enumerate(lines):
        if begin is None:
            if line[:1] not in ("", " ", "}", "#") and not line.startswith(("namespace", "using", "extern")):
                begin = number
            else:
                continue
        ends = line.startswith("}") or (line.endswith(";") and not any(re.search(r"\{\s*$", row) for row in lines[begin : number + 1]))
        if ends:
            blocks += named_blocks("\n".join(lines[begin : number + 1]))
            begin = None
    return blocks


def named_blocks(text: str) -> list[Block]:
    found = re.match(r"(?:template <.*?>\s*)?(?:class|struct) (\w+)[^;(]*\{", text, re.DOTALL)
    if found:
        return [Block(found[1], "", text)]  # with the methods that it defines itself
    head = text.split("{", 1)[0]
    function = re.search(r"(?:(\w+)::)?(~?\w+|operator[^\s\w(]+)\s*\(", head)
    if function and "=" not in head[: function.start()]:
        return [Block(function[2], function[1] or "", text)] if "{" in text else []  # nothing: a declaration
    table = re.search(r"\b(\w+)(?:\[\w*\])?\s*(?:=|\{|;)", text)
    return [Block(table[1], "", text)] if table else []


def read_blocks(src: pathlib.Path) -> list[Block]:
    blocks = []
    for path in sorted(src.rglob("*")):
        if path.suffix in SOURCES and path.is_file() and path.parent != src / "config":
            text = path.read_text(encoding="utf-8")
            found = blocks_of(text)
            rows = table_words(text, src)
            for block in found:
                block.words = set(WORD.findall(block.text)) | pasted_names(block.text, rows)
            blocks += found
    sections = read_sections(src)
    members = section_members(blocks, sections)
    for block in blocks:
        block.reads = reads_of(block, sections, members.get(block.owner or block.name, {}))
    return blocks


def table_words(text: str, src: pathlib.Path) -> set[str]:
    """The words of the tables of rows that a file includes: `#include "config/search_methods.inl"`."""
    tables = [src / path for path in re.findall(r'^#include "([\w/]+\.inl)"', text, re.MULTILINE)]
    return {word for table in tables if table.is_file() for word in WORD.findall(without_comments(table.read_text(encoding="utf-8")))}


def pasted_names(text: str, rows: set[str]) -> set[str]:
    """Names that a macro makes of the rows of a table: make_##name##_index."""
    parameters = {name.strip() for names in re.findall(r"^#define \w+\(([^)]*)\)", text, re.MULTILINE) for name in names.split(",")}
    pasted = [name.split("##") for name in re.findall(r"\w+(?:##\w+)+", text)]
    return {"".join(value if part in parameters else part for part in parts) for parts in pasted for value in rows}


def section_members(blocks: list[Block], sections: list[Section]) -> dict[str, dict[str, str]]:
    """Members of classes that are the struct of a section: class -> member -> name of the section."""
    result: dict[str, dict[str, str]] = {}
    for block in blocks:
        if re.match(r"(?:class|struct) ", block.text):
            for section in sections:
                for member in re.findall(rf"\b(?:{'|'.join(section.structs)})[&*]?\s+(\w+)(?: = [^;]*)?;", block.text):
                    result.setdefault(block.name, {})[member] = section.name
    return result


def reads_of(block: Block, sections: list[Section], members: dict[str, str]) -> set[str]:
    """Keys that a block reads. members: of its class, as from section_members."""
    text = re.sub(r"\s*\n\s*", " ", block.text)
    sections_of = dict(members)  # name in the text -> name of a section
    for section in sections:
        for name in re.findall(rf"\b(?:{'|'.join(section.structs)})\s*[&*]?\s*(\w+)\b", text):
            sections_of[name] = section.name
        if section.member:
            for name in re.findall(rf"\bauto&? (\w+) = [\w.>-]*?\bconfig_?\.{section.member};", text):
                sections_of[name] = section.name
    # Chains of names, not called and not assigned to: config.train.lr
    chains = {tuple(re.split(r"\.|->", chain)) for chain in CHAIN.findall(text)}
    reads = set()
    for section in sections:
        for *owners, key in (chain[:length] for chain in chains for length in range(2, len(chain) + 1)):
            inside = len(owners) > 1 and owners[-1] == section.member
            if key in section.keys and (inside or (len(owners) == 1 and sections_of.get(owners[0]) == section.name)):
                reads.add(f"{section.name}.{key}" if section.name else key)
        for key in re.findall(rf"\b(?:{'|'.join(section.structs)})::(\w+)", text):  # a pointer to the member
            if key in section.keys:
                reads.add(f"{section.name}.{key}" if section.name else key)
    return reads


def reads_by_command(src: pathlib.Path) -> dict[str, set[str]]:
    """For each command, the keys that the code behind its function reads."""
    blocks = [block for block in read_blocks(src) if block.name != "run_command"]  # of main.cpp: it names every command
    result = {}
    for start in sorted({block.name for block in blocks if block.name.endswith("_command")}):
        words, reads, left = {start, "run_job"}, set(), blocks
        while fresh := [block for block in left if block.is_reached(words)]:
            left = [block for block in left if not block.is_reached(words)]
            for block in fresh:
                words |= block.words
                reads |= block.reads
        result[start.removesuffix("_command")] = reads
    return result


def accepted_keys(vixen: str, command: str) -> set[str]:
    done = subprocess.run([vixen, command, "--help"], capture_output=True, text=True, check=True)
    return set(re.findall(r"^  --([\w.]+) ", done.stdout, re.MULTILINE))


def main() -> int:
    src = pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else pathlib.Path(__file__).parent.parent / "src")
    reads = reads_by_command(src)
    if sys.argv[1] == "--reads":
        for command, keys in reads.items():
            print(command + ":", *sorted(keys))
        return 0
    faults = 0
    for command, keys in reads.items():
        for key in sorted(accepted_keys(sys.argv[1], command) - keys):
            print(f"vixen {command} accepts --{key}, which no code that it runs reads")
            faults += 1
    print(f"{len(reads)} commands, {faults} faults")
    return 1 if faults or not reads else 0


if __name__ == "__main__":
    sys.exit(main())

"""The commands that a Markdown document shows, as `docs/contributing.md` says they are to be written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

SHELL = frozenset({"console", "sh", "bash", "shell", "shell-session"})
PYTHON = "python"
ELLIPSIS = frozenset({"...", "…"})
_MARK = re.compile(r"<!--\s*docs:\s*(?P<word>\S+)\s*(?P<rest>.*?)\s*-->", re.DOTALL)
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)  # https:, mailto: and so on


class DocumentError(Exception):
    """A block that is not written as agreed; the text begins with file and line."""


@dataclass(frozen=True)
class Marks:
    """What the comments before a block say of it."""

    skip: str | None = None
    cluster: bool = False
    background: bool = False
    output: bool = False
    status: int = 0


@dataclass(frozen=True)
class Command:
    """One command: what to type and the lines shown as its output."""

    line: int
    text: str
    shown: tuple[str, ...] = ()


@dataclass(frozen=True)
class Block:
    """A fenced block that can be run; `commands` holds the one program if `language` is Python."""

    line: int
    language: str
    marks: Marks
    commands: tuple[Command, ...] = field(default=())


def read_blocks(document: Path) -> list[Block]:
    """All runnable blocks of a document, skipped ones included.

    Raises:
        DocumentError: a block or a comment is not written as agreed.
    """
    try:
        return list(_blocks(MarkdownIt().parse(document.read_text())))
    except DocumentError as error:
        raise DocumentError(f"{document.name}:{error}") from None


def read_links(document: Path) -> list[tuple[str, str]]:
    """The files that a document links to, as it names them, and the sections there; one of both may be empty."""
    inline = [part for token in MarkdownIt().parse(document.read_text()) for part in token.children or ()]
    targets = [str(part.attrs.get("href") or part.attrs.get("src") or "") for part in inline]
    pairs = (target.partition("#") for target in targets if not _ELSEWHERE.match(target))
    return [(file, section) for file, _, section in pairs if file or section]


def read_sections(document: Path) -> set[str]:
    """The names by which a document's sections can be linked to."""
    tokens = MarkdownIt().parse(document.read_text())
    titles = (token.content for before, token in pairwise(tokens) if before.type == "heading_open")
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def _blocks(tokens: list[Token]) -> Iterator[Block]:
    marks = Marks()
    marked_at: int | None = None
    for token in tokens:
        line = token.map[0] + 1 if token.map else 0
        if token.type == "html_block":
            for mark in _MARK.finditer(token.content):
                marks = _with_mark(marks, mark["word"], mark["rest"], line)
                marked_at = line
        elif token.type in {"fence", "code_block"}:
            block = _block(token, line, marks)
            if block:
                yield block
            elif marked_at:
                raise DocumentError(f"{marked_at}: the mark stands before a block that is not run")
            marks, marked_at = Marks(), None
    if marked_at:
        raise DocumentError(f"{marked_at}: the mark stands before no block")


def _with_mark(marks: Marks, word: str, rest: str, line: int) -> Marks:
    changed = dict(vars(marks))
    if word == "skip" and len(rest.split()) > 1:
        changed["skip"] = rest
    elif word in {"cluster", "background", "output"} and not rest:
        changed[word] = True
    elif word == "exit" and rest.isdigit():
        changed["status"] = int(rest)
    else:
        raise DocumentError(
            f"{line}: {f'{word} {rest}'.strip()!r} is no mark; known are 'skip REASON', 'cluster', "
            "'background', 'output' and 'exit STATUS'"
        )
    return Marks(**changed)


def _block(token: Token, line: int, marks: Marks) -> Block | None:
    language = token.info.split()[0] if token.info.strip() else ""
    if language == PYTHON:
        return Block(line, PYTHON, marks, (Command(line, token.content),))
    has_prompt = token.content.startswith("$ ") or "\n$ " in token.content
    if language in SHELL:
        if not has_prompt and not marks.skip:
            raise DocumentError(f"{line}: no command in a {language} block; each begins with '$ '")
        return Block(line, language, marks, tuple(_commands(token.content, line + 1)))
    if has_prompt:
        raise DocumentError(f"{line}: commands stand in a block that is not fenced as console")
    return None


def _commands(content: str, first_line: int) -> Iterator[Command]:
    start, typed, shown = 0, list[str](), list[str]()
    for number, text in enumerate(content.splitlines(), first_line):
        if text.startswith("$ "):
            if typed:
                yield Command(start, "\n".join(typed), tuple(shown))
            start, typed, shown = number, [text.removeprefix("$ ")], []
        elif typed and not shown and (text.startswith("> ") or typed[-1].endswith("\\")):
            typed.append(text.removeprefix("> "))
        elif typed:
            shown.append(text)
    if typed:
        yield Command(start, "\n".join(typed), tuple(shown))


def output_matches(shown: tuple[str, ...], printed: str) -> bool:
    """Whether a command printed what the document shows, numbers and widths aside.

    A line of only `...` stands for any lines.
    """
    pattern = "".join(
        r"(?:.*\n)*?" if line.strip() in ELLIPSIS else re.escape(_without_numbers(line)) + r"\n"
        for line in shown
    )
    lines = "".join(f"{_without_numbers(line)}\n" for line in printed.splitlines())
    return re.fullmatch(pattern, lines) is not None


def _without_numbers(line: str) -> str:
    """The line with each number as `#` and each run of blanks or of a table's rule as one."""
    line = re.sub(r"\d+(?:[.,]\d+)*", "#", line)
    return re.sub(r"([ ─━═-])\1+", r"\1", line).strip()

"""Builds the documentation as a site: the pages of `docs/` by MkDocs, and the reference of the Python API by pdoc.

    tools/site                  into `build/site`
    tools/site --to DIRECTORY

The pages stand in the site as they stand in the repository, with the files that they link to, so that no link has to
change. It needs no network, and neither do readers of the site. Ends with status 1 if a link leads nowhere.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort
from pymdownx.slugs import slugify

from reference import write_reference

ROOT: Final = Path(__file__).resolve().parents[2]

SECTIONS: Final = {
    "Use": ("python", "reads", "http", "redis", "locks", "watch", "cli", "groups", "commit", "registers"),
    "Operate": ("configuration", "operations", "deploy", "security", "backup", "metrics", "page", "runbook"),
    "Understand": ("architecture", "protocol", "multipaxos", "protocols", "rows"),
    "Trust": ("simulator", "mutants", "chaos", "performance", "profile", "topology"),
}
"""Where documents stand in the menu, by the names of their files. Those that are named nowhere come last."""

_LINK: Final = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)")
_SOURCE: Final = re.compile(r'(?:src|srcset)="(?!\w+:)([^"]+)"')


def main(argv: Sequence[str]) -> int:
    """Build it; returns the exit status."""
    parser = argparse.ArgumentParser(prog="tools/site", description="Build the documentation as a site.")
    parser.add_argument("--to", type=Path, default=ROOT / "build" / "site", help="directory  [build/site]")
    directory = parser.parse_args(argv).to.resolve()
    logging.basicConfig(format="tools/site: %(message)s", level=logging.WARNING)
    with tempfile.TemporaryDirectory() as place:
        pages = Path(place) / "pages"
        copied = copy_pages(ROOT, pages)
        complaints = write_reference(pages / "reference")
        if complaints:
            print("\n".join(f"tools/site: {text}" for text in complaints), file=sys.stderr)
            return 1
        configuration = Path(place) / "mkdocs.yml"
        configuration.write_text("site_name: epaxos\n", encoding="utf-8")
        try:
            build(
                load_config(
                    str(configuration), docs_dir=str(pages), site_dir=str(directory), **_settings(copied)
                )
            )
        except Abort:
            return 1
    print(f"written: {directory / 'index.html'}")
    return 0


def copy_pages(root: Path, into: Path) -> list[Path]:
    """Copy the pages, and all that they link to, to where they stand in the repository; returns their paths there."""
    waiting = [
        Path("README.md"),
        *(path.relative_to(root) for path in sorted((root / "docs").glob("**/*.md"))),
    ]
    copied: dict[Path, None] = {}
    while waiting:
        path = waiting.pop(0)
        if path in copied or not (root / path).is_file():
            continue  # a folder, or nothing, of which MkDocs will complain
        copied[path] = None
        target = into / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            text = (root / path).read_text(encoding="utf-8")
            linked = [*_LINK.findall(text), *_SOURCE.findall(text)]
            waiting += [Path(os.path.normpath(path.parent / link)) for link in linked]
            target.write_text(as_markdown(text), encoding="utf-8")
        else:
            shutil.copyfile(root / path, target)
    return [path for path in copied if path.suffix == ".md"]


def as_markdown(text: str) -> str:
    """A page as Python's Markdown wants it: an empty line before a table, four spaces before what is in a list."""
    lines: list[str] = []
    fenced = False
    for line in text.splitlines():
        fenced ^= line.lstrip().startswith("```")
        if not fenced and line.startswith("|") and lines and lines[-1].startswith("<!--"):
            lines.append("")
        deeper = not fenced and line.startswith("   ") and not line.startswith("    ")
        lines.append(f" {line}" if deeper else line)
    return "\n".join(lines) + "\n"


def _settings(pages: Sequence[Path]) -> dict[str, Any]:
    """What MkDocs is told; readers of the site need no network, so there are no fonts from elsewhere."""
    return {
        "strict": True,
        "use_directory_urls": False,
        "nav": _menu(pages),
        "validation": {"links": {"anchors": "warn", "unrecognized_links": "warn"}},
        "plugins": ["search"],
        "theme": {
            "name": "material",
            "font": False,
            "features": ["navigation.top", "content.code.copy"],
            "palette": [
                {
                    "media": f"(prefers-color-scheme: {look})",
                    "scheme": scheme,
                    "primary": "indigo",
                    "toggle": {"icon": f"material/brightness-{icon}", "name": f"Be {other}"},
                }
                for look, other, scheme, icon in (
                    ("light", "dark", "default", 7),
                    ("dark", "light", "slate", 4),
                )
            ],
        },
        "markdown_extensions": [
            "tables",
            "attr_list",
            {"toc": {"permalink": True, "slugify": slugify(case="lower"), "toc_depth": 3}},
            "pymdownx.superfences",
            {"pymdownx.highlight": {"guess_lang": False}},
        ],
    }


def _menu(pages: Sequence[Path]) -> list[dict[str, Any]]:
    """The menu: sections by what readers want, then what stands in none of them."""
    docs = {path.stem: str(path) for path in pages if path.parent == Path("docs")}
    menu: list[dict[str, Any]] = [{"epaxos": "README.md"}]
    for section, names in SECTIONS.items():
        menu.append({section: [docs.pop(name) for name in names if name in docs]})
        if section == "Use":
            menu[-1][section].append({"Reference of the Python API": "reference/index.html"})
    decisions = [str(path) for path in pages if path.parts[:2] == ("docs", "decisions")]
    rest = [str(path) for path in pages if path.parts[0] != "docs" and str(path) != "README.md"]
    return [*menu, {"Decisions": decisions}, {"More": [*docs.values(), *rest]}]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

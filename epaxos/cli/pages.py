"""The help page of a command, written as its docstring.

Click joins the lines of a paragraph and wraps them anew. A paragraph that holds an indented line is a list or
an example, and is shown as it is written.
"""

from __future__ import annotations

import inspect
from typing import Any, Final

import click

_AS_WRITTEN: Final = "\b\n"
"""Click's mark before a paragraph that it shall not wrap."""


class Page(click.Command):
    """A command whose help keeps lists and examples as they are written."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.help:
            self.help = keep_lists(self.help)


class PagedGroup(Page, click.Group):
    """A group of commands whose help keeps its examples."""


def keep_lists(text: str) -> str:
    """The text with click's mark before each paragraph with an indented line."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(_AS_WRITTEN + part if "\n " in part else part for part in paragraphs)

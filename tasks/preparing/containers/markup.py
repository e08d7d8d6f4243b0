"""The root element of an SVG document, found in one pass over its beginning.

Patterns that try again from every place took minutes over 130 bytes of brackets. Here every search goes forward.
"""

import re
from dataclasses import dataclass

_BLANK = re.compile(r"\ufeff?\s*+")
_ROOT = re.compile(r"<(?:[\w.-]++:)?svg(?=[\s>/])", re.IGNORECASE)
_DOCTYPE = re.compile(r"<!DOCTYPE", re.IGNORECASE)
_MARK = re.compile(r"[\[\]>\"']|<!--")
_WORD = re.compile(r"\s++|\"[^\"]*+\"|'[^']*+'|/?>|[^\s=>/\"']++|.", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Attribute:
    """An attribute's value, and where its name begins and its value's quote ends."""

    value: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Root:
    """The root's attributes, and where its start tag's `>` or `/>` stands."""

    attributes: dict[str, Attribute]
    end: int

    def get(self, name: str) -> str | None:
        """The attribute's text; None without it."""
        attribute = self.attributes.get(name)
        return attribute.value if attribute else None


def root_start(text: str) -> int | None:
    """Where the attributes of the `svg` element begin that a document starts with; None for any other text."""
    at = 0
    while True:
        at = _BLANK.match(text, at).end()  # type: ignore[union-attr]  # matches anything
        if root := _ROOT.match(text, at):
            return root.end()
        if text.startswith("<?", at):
            end = text.find("?>", at) + 2
        elif text.startswith("<!--", at):
            end = text.find("-->", at + 4) + 3
        elif _DOCTYPE.match(text, at):
            end = _after_doctype(text, at + len("<!DOCTYPE"))
        else:
            return None
        if end <= at:
            return None
        at = end


def read_root(text: str) -> Root | None:
    """The root element of an SVG document; None where it does not end, or begins otherwise."""
    at = root_start(text)
    if at is None:
        return None
    attributes: dict[str, Attribute] = {}
    name, start, assigned = "", 0, False
    while token := _WORD.match(text, at):
        word = token[0]
        if word in (">", "/>"):
            return Root(attributes, at)
        if word in ('"', "'"):  # it never ends
            return None
        if word[0] in "\"'":
            if assigned:
                attributes.setdefault(name, Attribute(word[1:-1], start, token.end()))
            name, assigned = "", False
        elif word == "=":
            assigned = bool(name)
        elif not word.isspace():
            name, start, assigned = word, at, False
        at = token.end()
    return None


def _after_doctype(text: str, at: int) -> int:
    """The place behind a document type declaration and its own subset; 0 where it does not end."""
    inside = False
    while mark := _MARK.search(text, at):
        at = mark.end()
        if mark[0] == ">" and not inside:
            return at
        if mark[0] in "[]":
            inside = mark[0] == "["
        elif mark[0] != ">":
            close = "-->" if mark[0] == "<!--" else mark[0]
            end = text.find(close, at)
            if end < 0:
                return 0
            at = end + len(close)
    return 0

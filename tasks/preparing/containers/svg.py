"""SVG: the size of a drawing, and the same drawing at another size.

Its root element is found in one pass over its beginning. Patterns that try again from every place took minutes over 130
bytes of brackets; here every search goes forward.
"""

import math
import re
import zlib
from dataclasses import dataclass

from tasks.errors import ImageError

_BLANK = re.compile(r"\ufeff?\s*+")
_ROOT = re.compile(r"<(?:[\w.-]++:)?svg(?=[\s>/])", re.IGNORECASE)
_DOCTYPE = re.compile(r"<!DOCTYPE", re.IGNORECASE)
_MARK = re.compile(r"[\[\]>\"']|<!--")
_WORD = re.compile(r"\s++|\"[^\"]*+\"|'[^']*+'|/?>|[^\s=>/\"']++|.", re.DOTALL)

CANVAS_EDGE = 4096  # the long side given to a drawing that names no size, so that every preset shrinks it
MAX_EDGE = 32_767  # a drawing that names a larger size is put on the canvas too
MAX_TEXT = 50_000_000  # bytes of a document once unpacked

_LENGTH = re.compile(r"\s*\+?(\d*\.?\d+(?:[eE][+-]?\d+)?)\s*([a-zA-Z%]*)\s*\Z")
_LONGEST = 200  # characters of a length or a view box; digits without end would keep the pattern busy
_PER_INCH = {"in": 1, "cm": 2.54, "mm": 25.4, "q": 101.6, "pt": 72, "pc": 6}
_PIXELS = {"": 1.0, "px": 1.0, "em": 16.0, "ex": 8.0} | {unit: 96 / count for unit, count in _PER_INCH.items()}
_ENCODING = re.compile(rb"\s*<\?xml[^>]*?encoding\s*=\s*[\"']([\w.-]+)[\"']")
_DECLARATION = re.compile(r"\A\s*<\?xml.*?\?>", re.DOTALL)  # the text is handed on as UTF-8, whatever it was
_EXTERNAL_ENTITY = re.compile(r"<!ENTITY\s[^<>]*?\b(?:SYSTEM|PUBLIC)\b", re.IGNORECASE)
_OUTSIDE = re.compile(
    r"<(?:image|use|feImage|tref|xi:include)\b[^<>]*?href\s*+=\s*+[\"']\s*+(?!#|data:)"
    r"|url\(\s*+[\"']?+\s*+(?![\"'#]|data:)|@import"
)


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


@dataclass(frozen=True, slots=True)
class Drawing:
    """An SVG document's root: the size it is drawn at, in pixels, if its attributes say one."""

    width: int | None
    height: int | None
    named: bool  # the size is the document's own, not the canvas


def unpack_svg(data: bytes) -> str:
    """The document's text; ImageError `too_large` for a gzipped one that unpacks to too much."""
    if data.startswith(b"\x1f\x8b"):
        unpacker = zlib.decompressobj(wbits=31)
        try:
            data = unpacker.decompress(data, MAX_TEXT)
        except zlib.error as error:
            raise ImageError("damaged", "The compressed SVG (.svgz) cannot be unpacked") from error
        if unpacker.unconsumed_tail:
            raise ImageError("too_large", f"The compressed SVG (.svgz) unpacks to more than {MAX_TEXT // 10**6} MB")
    if len(data) > MAX_TEXT:
        raise ImageError("too_large", f"The SVG is larger than {MAX_TEXT // 10**6} MB")
    text = _DECLARATION.sub("", _decoded(data), count=1)
    if _EXTERNAL_ENTITY.search(text):
        raise ImageError("unsafe", "The SVG asks for other files through XML entities; save it as a plain SVG")
    return text


def read_svg(text: str) -> Drawing:
    """The size of a drawing, from its root's attributes; without a size only the shape counts."""
    root = _root(text)
    width, height = _pixels(root.get("width")), _pixels(root.get("height"))
    box = _view_box(root)
    if box and (width is None) != (height is None):
        width, height = (width or (height or 0) * box[2] / box[3]), (height or (width or 0) * box[3] / box[2])
    if width and height and max(width, height) <= MAX_EDGE:
        return Drawing(max(round(width), 1), max(round(height), 1), named=True)
    shape = (width, height) if width and height else box[2:] if box else None
    if not shape:
        return Drawing(None, None, named=False)
    return Drawing(*on_canvas(*shape), named=False)


def on_canvas(width: float, height: float) -> tuple[int, int]:
    """A shape scaled so that its long side is that of the canvas."""
    scale = CANVAS_EDGE / max(width, height)
    return max(round(width * scale), 1), max(round(height * scale), 1)


def resized_svg(text: str, size: tuple[int, int], ink: tuple[int, int]) -> str:
    """The same drawing with another size on its root, so that it is drawn at that size and no larger first.

    `ink` stands in for the size and the view box of a drawing that has neither.
    """
    root = _root(text)
    replaced = ["width", "height"]
    extra = f' width="{size[0]}" height="{size[1]}"'
    if _view_box(root) is None:
        replaced.append("viewBox")
        own_width, own_height = _pixels(root.get("width")), _pixels(root.get("height"))
        extra += f' viewBox="0 0 {own_width or ink[0]!r} {own_height or ink[1]!r}"'
    parts, at = [], 0
    for attribute in sorted((root.attributes[name] for name in replaced if name in root.attributes), key=_start):
        parts.append(text[at : attribute.start])
        at = attribute.end
    return "".join([*parts, text[at : root.end], extra, text[root.end :]])


def refers_outside(text: str) -> bool:
    """Whether the drawing names other files or addresses, which are never fetched."""
    return bool(_OUTSIDE.search(text))


def _decoded(data: bytes) -> str:
    """The text in the encoding that its first bytes or its XML declaration name."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", errors="replace")
    named = _ENCODING.match(data[:200])
    try:
        return data.decode(named[1].decode() if named else "utf-8-sig", errors="replace")
    except LookupError:
        return data.decode("utf-8-sig", errors="replace")


def _root(text: str) -> Root:
    root = read_root(text)
    if root is None:
        raise ImageError("damaged", "The SVG's first element is damaged or cut short")
    return root


def _start(attribute: Attribute) -> int:
    return attribute.start


def _pixels(length: str | None) -> float | None:
    """A CSS length in pixels; None for a share of the page, nonsense, zero or infinity."""
    found = _LENGTH.match((length or "")[:_LONGEST])
    factor = _PIXELS.get(found[2].lower()) if found else None
    pixels = float(found[1]) * factor if found and factor else 0.0
    return pixels if pixels > 0 and math.isfinite(pixels) else None


def _view_box(root: Root) -> tuple[float, float, float, float] | None:
    try:
        numbers = re.split(r"[\s,]+", (root.get("viewBox") or "")[:_LONGEST].strip())
        left, top, width, height = map(float, numbers)
    except ValueError:
        return None
    usable = width > 0 and height > 0 and all(map(math.isfinite, (left, top, width, height)))
    return (left, top, width, height) if usable else None

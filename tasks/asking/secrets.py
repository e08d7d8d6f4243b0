"""Taking secrets out of what an endpoint says, before any of it is cut, written or shown."""

import base64
import html
import json
import re
from functools import lru_cache
from urllib.parse import quote, quote_plus

from tasks.text import as_utf8

HIDDEN = "..."
IMAGE_DATA = re.compile(r"[A-Za-z0-9+/=_%-]{64,}")
RECOGNISED = 16  # characters: what begins like the key is taken for it, since it may have been cut on its way here
ENCODINGS = ".+/=%-"  # what stands in keys and their encodings beside letters and digits
LONGEST = 500


class Secrets:
    """Knows a key in every encoding in which it is likely to come back."""

    def __init__(self, key: str) -> None:
        self._forms = _forms(key)
        self._key = _pattern(self._forms)

    def out_of(self, text: object, most: int = LONGEST) -> str:
        """One line of at most so many characters, without the key and without anything that could be image data."""
        said = IMAGE_DATA.sub(HIDDEN, self.key_out_of(str(text)))
        return as_utf8(" ".join(said.split()))[:most]

    def key_out_of(self, text: str) -> str:
        """The text without the key, else as it is."""
        if self._key is None or not any(form[:RECOGNISED] in text for form in self._forms):
            return text
        return self._key.sub(HIDDEN, text)


def _pattern(forms: tuple[str, ...]) -> re.Pattern[str] | None:
    if not forms:
        return None
    signs = "".join(sorted(set("".join(forms)) | set(ENCODINGS)))
    rest = f"[\\w{re.escape(signs)}]*"
    whole = [re.escape(form) for form in forms]
    begun = [re.escape(form[:RECOGNISED]) + rest for form in forms if len(form) > RECOGNISED]
    return re.compile("|".join([*whole, *begun]))


@lru_cache(maxsize=8)
def _forms(key: str) -> tuple[str, ...]:
    """The key plain, escaped for a URL, JSON or HTML, as hexadecimal and as base64; longest first."""
    if not key:
        return ()
    forms = {key, quote(key, safe=""), quote_plus(key), json.dumps(key)[1:-1], html.escape(key)}
    forms |= {re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), form) for form in set(forms)}
    forms |= {key.encode().hex(), key.encode().hex().upper()}
    forms |= {form for offset in range(3) for form in _base64(key.encode(), offset)}
    # Of a key of one or two characters a form may be empty or one letter, which stand in every text.
    forms = {form for form in forms if len(form) > 1 or form == key}
    return tuple(sorted(forms, key=lambda form: (-len(form), form)))


def _base64(key: bytes, offset: int) -> tuple[str, str]:
    """The characters that the key alone decides, in a text whose `offset` bytes before it do not fill a group of 3."""
    first, last = -(-offset * 8 // 6), (offset + len(key)) * 8 // 6
    text = base64.b64encode(b"\0" * offset + key).decode()[first:last]
    return text, text.translate(str.maketrans("+/", "-_"))

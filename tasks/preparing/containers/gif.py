"""GIF: blocks (https://www.w3.org/Graphics/GIF/spec-gif89a.txt)."""

import struct

from tasks.preparing.containers.container import PARENT_PARTS, Container, damaged, truncated

_EXTENSION, _IMAGE, _TRAILER = 0x21, 0x2C, 0x3B
_GRAPHIC_CONTROL = 0xF9


def read_gif(data: bytes, most_parts: int = PARENT_PARTS) -> Container:
    """The container of a GIF file, or of its beginning; `frames` counts as far as the bytes and the parts go."""
    if len(data) < 13:
        raise truncated("GIF")
    image = Container(frames=0)
    image.width, image.height, flags = struct.unpack_from("<HHB", data, 6)
    at = 13 + _table_size(flags)
    image.pieces.append(data[:at])
    for _ in range(most_parts):
        if at >= len(data):
            break
        kind, start = data[at], at
        if kind == _TRAILER:
            image.complete = image.frames > 0
            image.pieces.append(b";")
            break
        if kind == _EXTENSION:
            at = _skip_blocks(data, at + 2)
            if data[start + 1 : start + 2] == bytes([_GRAPHIC_CONTROL]) and image.frames == 0:
                image.alpha = image.alpha or bool(data[start + 3 : start + 4] and data[start + 3] & 1)
        elif kind == _IMAGE and at + 10 <= len(data):
            left, top, width, height, flags = struct.unpack_from("<4HB", data, at + 1)
            at = _skip_blocks(data, at + 10 + _table_size(flags) + 1)
            if image.frames == 0:
                image.plain = (left, top, width, height) == (0, 0, image.width, image.height)
                image.pieces.append(data[start:at])
            image.frames += 1
        else:
            break
    image.frames = max(image.frames, 1)
    if not image.width or not image.height:
        raise damaged("GIF", f"it claims to be {image.width} x {image.height} pixels")
    return image


def _table_size(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _skip_blocks(data: bytes, at: int) -> int:
    """The place after a chain of sub-blocks, which a length of zero ends."""
    while at < len(data) and data[at]:
        at += data[at] + 1
    return at + 1

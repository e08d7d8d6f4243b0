"""Whether an ICC profile is sRGB, judged by its numbers and not by its name."""

import struct

# Red, green and blue of sRGB adapted to D50, as sRGB profiles state them (https://www.color.org/srgb.pdf).
_SRGB_PRIMARIES = {
    b"rXYZ": (0.4360, 0.2225, 0.0139),
    b"gXYZ": (0.3851, 0.7169, 0.0971),
    b"bXYZ": (0.1431, 0.0606, 0.7139),
}
_TOLERANCE = 0.006  # below what an 8-bit channel shows, above the rounding found in profiles in use
_SAMPLES = (0.25, 0.5, 0.75)


def is_srgb(profile: bytes) -> bool:
    """Whether colours under this profile mean what they mean in sRGB, to within about one step of 255."""
    try:
        tags = _tags(profile)
        if profile[16:20] == b"GRAY":
            return _is_srgb_curve(tags[b"kTRC"])
        if profile[16:20] != b"RGB " or b"A2B0" in tags:
            return False
        primaries = all(_near(_xyz(tags[name]), expected) for name, expected in _SRGB_PRIMARIES.items())
        return primaries and all(_is_srgb_curve(tags[name]) for name in (b"rTRC", b"gTRC", b"bTRC"))
    except Exception:  # noqa: BLE001  # a profile is foreign bytes too; whatever it trips over, it is not sRGB
        return False


def _tags(profile: bytes) -> dict[bytes, memoryview]:
    """The tags by name; views, for a hundred may each claim the whole file."""
    view = memoryview(profile)
    (count,) = struct.unpack_from(">I", profile, 128)
    entries = [struct.unpack_from(">4sII", profile, 132 + 12 * index) for index in range(min(count, 100))]
    return {name: view[offset : offset + size] for name, offset, size in entries}


def _xyz(tag: memoryview) -> tuple[float, ...]:
    return tuple(value / 65536 for value in struct.unpack_from(">3i", tag, 8))


def _near(values: tuple[float, ...], expected: tuple[float, ...]) -> bool:
    return all(abs(value - target) <= _TOLERANCE for value, target in zip(values, expected, strict=True))


def _is_srgb_curve(tag: memoryview) -> bool:
    return all(abs(_curve(tag, value) - _srgb(value)) <= _TOLERANCE for value in _SAMPLES)


def _srgb(value: float) -> float:
    return float(((value + 0.055) / 1.055) ** 2.4)


def _curve(tag: memoryview, value: float) -> float:
    """The tone curve of a `curv` or `para` tag at one point."""
    if bytes(tag[:4]) == b"para":
        (kind,) = struct.unpack_from(">H", tag, 8)
        count = (1, 3, 4, 5, 7)[kind]
        numbers = [number / 65536 for number in struct.unpack_from(f">{count}i", tag, 12)]
        gamma, a, b = (*numbers[:3], 1.0, 0.0)[:3] if count >= 3 else (numbers[0], 1.0, 0.0)
        lift = {2: 3, 4: 5}.get(kind)  # the samples lie above the straight part of the curve
        return float((a * value + b) ** gamma + (numbers[lift] if lift else 0.0))
    (count,) = struct.unpack_from(">I", tag, 8)
    if count == 0:
        return value
    if count == 1:
        return float(value ** (struct.unpack_from(">H", tag, 12)[0] / 256))
    at = value * (count - 1)
    low, high = struct.unpack_from(">2H", tag, 12 + 2 * int(at))
    return float((low + (high - low) * (at - int(at))) / 65535)

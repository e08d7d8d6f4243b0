"""Colours: every mode a decoder gives, made 8-bit sRGB on white."""

import io

from PIL import Image, ImageChops, ImageCms

from tasks.preparing.containers.container import is_srgb

_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
_LAB = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
_WHITE = (255, 255, 255)
_BITS_PER_SAMPLE = 258


def is_opaque(image: Image.Image) -> bool:
    """Whether an image that could be transparent is not, in any pixel."""
    alpha = resizable(image, image.format or "")
    return not alpha.has_transparency_data or alpha.getchannel("A").getextrema()[0] == 255


def resizable(image: Image.Image, source_format: str) -> Image.Image:
    """The image in a mode that can be resampled: Pillow resamples palettes by nearest neighbour and clips 16 bits."""
    if image.mode.startswith("I;16"):
        return _from_16_bits(image)
    if image.mode in ("I", "F"):
        return _from_numbers(image, 65535.0 if source_format == "PPM" and image.mode == "I" else None)
    if image.mode in ("P", "PA") or "transparency" in image.info:
        return image.convert("RGBA" if image.has_transparency_data else "RGB")
    if image.mode == "1":
        return image.convert("L")
    if image.mode == "CMYK" and source_format == "JPEG" and "adobe" not in image.info:
        return ImageChops.invert(image)  # Pillow takes every CMYK JPEG for Adobe's, which are stored inverted
    if image.mode == "La":
        return image.convert("LA")
    if image.mode in ("RGBX", "RGBa", "HSV", "YCbCr"):
        return image.convert("RGBA" if image.mode == "RGBa" else "RGB")
    return image


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """The colours as sRGB means them; a profile that is broken or of another colour space is passed over."""
    if image.mode == "LAB":
        return _converted(image, _LAB)
    if image.mode == "CMYK" or (profile and not is_srgb(profile)):
        if not profile:
            return image.convert("RGB")
        alpha = image.getchannel("A") if image.mode in ("RGBA", "LA") else None
        colours = image.convert(image.mode[:-1]) if alpha else image
        try:
            converted = _converted(colours, ImageCms.ImageCmsProfile(io.BytesIO(profile)))
        except (ImageCms.PyCMSError, OSError):
            return image.convert("RGB") if image.mode == "CMYK" else image
        if alpha:
            converted.putalpha(alpha)
        return converted
    return image


def on_white(image: Image.Image) -> Image.Image:
    """A grey or RGB image without transparency: paper is white, and so is what black text is drawn on."""
    if image.mode in ("RGBA", "LA"):
        opaque = image.convert("RGBA")
        paper = Image.new("RGB", image.size, _WHITE)
        paper.paste(opaque.convert("RGB"), mask=opaque.getchannel("A"))
        return paper.convert("L") if image.mode == "LA" else paper
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def _converted(image: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image:
    converted = ImageCms.profileToProfile(image, profile, _SRGB, outputMode="RGB")
    assert converted is not None  # None only when working in place
    return converted


def _from_16_bits(image: Image.Image) -> Image.Image:
    """Scaled by the depth that a TIFF names, such as 12 bits for X-rays, and by 16 bits otherwise."""
    depths = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (16,))
    factor = 255 / (2 ** depths[0] - 1)
    return image.point(lambda value: value * factor).convert("L")


def _from_numbers(image: Image.Image, top: float | None) -> Image.Image:
    """32-bit integers and floats have no fixed white: 0 to 1 and 0 to 255 are kept as such, others are stretched."""
    import numpy

    numbers = numpy.nan_to_num(numpy.asarray(image, dtype=numpy.float32), posinf=0.0, neginf=0.0)
    low, high = float(numbers.min()), float(numbers.max())
    if top or low >= 0:
        low, high = 0.0, top or (1.0 if high <= 1 and image.mode == "F" else 255.0 if high <= 255 else high)
    return Image.fromarray(((numbers - low) * (255 / ((high - low) or 1.0))).clip(0, 255).astype(numpy.uint8))

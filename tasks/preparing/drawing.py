"""Draw an SVG with librsvg, from memory: without an address of its own it can reach no file and no network."""

from PIL import Image

from tasks.errors import ImageError
from tasks.preparing.containers.svg import on_canvas, read_svg, refers_outside, resized_svg, unpack_svg
from tasks.preparing.encoding import Raster
from tasks.preparing.sizes import planned_size
from tasks.preparing.vips import libvips
from tasks.types import ImageRules


def draw_svg(data: bytes, rules: ImageRules) -> Raster:
    """The drawing on white at the size that is sent; `containers.svg` says what its own size is."""
    vips = libvips()
    text = unpack_svg(data)
    drawing = read_svg(text)
    try:
        if drawing.width and drawing.height:
            source = ink = drawing.width, drawing.height
        else:  # neither size nor view box: the drawing is as large as its ink
            inked = vips.Image.svgload_buffer(text.encode())
            ink = inked.width, inked.height
            source = on_canvas(*ink)
        target = planned_size(*source, rules)
        drawn = vips.Image.svgload_buffer(resized_svg(text, target, ink).encode())
        pixels = drawn.flatten(background=255).colourspace("srgb").write_to_memory()
    except vips.Error as error:
        raise ImageError("damaged", f"The SVG cannot be drawn: {_first_line(error)}") from error
    image = Image.frombytes("RGB", (drawn.width, drawn.height), pixels)
    if image.size != target:
        image = image.resize(target, Image.Resampling.LANCZOS)
    notes = ["links to other files were not followed"] if refers_outside(text) else []
    return Raster(image, "SVG", source, drawn=True, notes=notes)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else "unknown error"

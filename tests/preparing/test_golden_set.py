"""Every awkward file becomes a request within the API's limits, or one reason that a person understands.

`python -m tests.preparing.test_golden_set` prints what becomes of each.
"""

import io

import pytest
from PIL import Image, ImageCms

from tasks.errors import ImageError
from tasks.preparing import image_header, planned_size, prepare_image, sniff_format
from tasks.types import ImageRules, PreparedImage
from tests.golden import Golden, golden_files

OCR = ImageRules(max_edge=2048, quality=95, model_edge=2576, model_tokens=4784, max_base64_bytes=5_000_000)
CLASSIFICATION = ImageRules(max_edge=512, quality=75, model_edge=1568, model_tokens=1568)
CORNERS_AT = ((0.2, 0.2), (0.8, 0.2), (0.2, 0.8), (0.8, 0.8))
NAMES = sorted(golden_files())


def test_the_set_is_large_and_the_reasons_are_few() -> None:
    assert len(NAMES) >= 50
    codes = {golden.expect for golden in golden_files().values()}
    assert codes == {
        *(
            "ok",
            "empty",
            "not_an_image",
            "truncated",
            "damaged",
            "too_many_pixels",
            "too_large",
            "unsupported",
            "unsafe",
        )
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_file_becomes_what_it_should(name: str) -> None:
    golden = golden_files()[name]
    if golden.expect != "ok":
        with pytest.raises(ImageError) as caught:
            prepare_image(golden.data, OCR)
        assert caught.value.code == golden.expect
        assert_a_person_understands(str(caught.value))
        return
    pages = prepare_image(golden.data, OCR)
    assert [page.page for page in pages] == list(range(1, golden.pages + 1))
    for page in pages:
        assert_within_limits(page, OCR)
    assert_looks_right(pages[0], golden)
    assert (golden.note is None) == (pages[-1].note is None) or "to fit the byte limit" in (pages[-1].note or "")
    assert (golden.note or "") in (pages[-1].note or "")


@pytest.mark.parametrize("name", [name for name in NAMES if golden_files()[name].expect == "ok"])
def test_the_smallest_preset_holds_its_limits_too(name: str) -> None:
    for page in prepare_image(golden_files()[name].data, CLASSIFICATION):
        assert_within_limits(page, CLASSIFICATION)


@pytest.mark.parametrize("name", [name for name in NAMES if golden_files()[name].expect == "ok"])
def test_the_header_foretells_what_is_sent(name: str) -> None:
    if name == "without-size-or-box.svg":
        pytest.skip("only drawing it tells its shape")
    data = golden_files()[name].data
    header, pages = image_header(data), prepare_image(data, CLASSIFICATION)
    first = pages[0]
    assert (header.format, header.width, header.height) == (
        first.source_format,
        first.source_width,
        first.source_height,
    )
    assert planned_size(header.width, header.height, CLASSIFICATION, header.format) == (first.width, first.height)
    assert min(header.pages, CLASSIFICATION.max_pages) == len(pages)


def assert_within_limits(page: PreparedImage, rules: ImageRules) -> None:
    """What the API publishes, checked on the bytes with a decoder of its own, and that nothing private is in them."""
    image = Image.open(io.BytesIO(page.data))
    assert {"JPEG": "image/jpeg", "PNG": "image/png", "GIF": "image/gif", "WEBP": "image/webp"}[image.format or ""] == (
        page.media_type
    )
    assert sniff_format(page.data) == image.format
    image.load()
    assert image.size == (page.width, page.height)
    assert max(image.size) <= min(rules.max_edge, rules.model_edge, 8000)
    assert -(-image.width // 28) * -(-image.height // 28) <= rules.model_tokens
    assert 4 * -(-len(page.data) // 3) <= rules.max_base64_bytes
    assert getattr(image, "n_frames", 1) == 1
    assert not image.getexif()
    assert not {"icc_profile", "exif", "xmp", "comment", "XML:com.adobe.xmp"} & set(image.info)
    assert b"SecretCam" not in page.data
    assert image.mode in ("1", "L", "P", "RGB") or image.getchannel("A").getextrema() == (255, 255)
    assert page.source_width * page.scale_x == pytest.approx(page.width)
    assert page.source_height * page.scale_y == pytest.approx(page.height)


def assert_looks_right(page: PreparedImage, golden: Golden) -> None:
    image = Image.open(io.BytesIO(page.data))
    if golden.size:
        assert image.size == golden.size
    if golden.corners:
        pixels = image.convert("RGB")
        for (x, y), expected in zip(CORNERS_AT, golden.corners, strict=True):
            seen = pixels.getpixel((int(x * image.width), int(y * image.height)))
            assert seen == pytest.approx(expected, abs=golden.tolerance)
    if golden.as_it_is is not None:
        coded = page.data[-60:-16]  # the end of the coded pixels
        assert (coded in golden.data) == golden.as_it_is
    if golden.as_it_is:
        assert image.convert("RGBA").tobytes() == Image.open(io.BytesIO(golden.data)).convert("RGBA").tobytes()


def assert_a_person_understands(message: str) -> None:
    assert message[0].isupper()
    assert "\n" not in message
    assert 20 < len(message) < 300
    assert "Traceback" not in message


def test_the_expected_colours_are_those_of_an_independent_conversion() -> None:
    """The two profiles of the set are real ones to littleCMS, and change what is seen."""
    for name in ("adobe-rgb.png", "display-p3.jpg"):
        golden = golden_files()[name]
        image = Image.open(io.BytesIO(golden.data))
        profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
        converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
        assert converted is not None
        assert golden.corners is not None
        assert converted.getpixel((5, 5)) == pytest.approx(golden.corners[0], abs=golden.tolerance)
        assert image.getpixel((5, 5)) != pytest.approx(golden.corners[0], abs=golden.tolerance)


def print_table() -> None:
    """What became of each file."""
    for name, golden in golden_files().items():
        try:
            pages = prepare_image(golden.data, OCR)
        except ImageError as error:
            print(f"{name!r:45} {error.code}: {error}")
            continue
        page = pages[0]
        shape = f"{page.media_type} {page.width} x {page.height}, {len(page.data):,} bytes"
        print(f"{name!r:45} {shape}{f', {len(pages)} pages' if len(pages) > 1 else ''}; {pages[-1].note or 'no note'}")


if __name__ == "__main__":
    print_table()

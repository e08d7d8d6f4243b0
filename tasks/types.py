"""The values that pass from step to step."""

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Source:
    """One listed file, as its storage describes it."""

    uri: str
    name: str
    size: int
    modified: datetime | None = None
    etag: str | None = None


@dataclass(frozen=True, slots=True)
class ImageRules:
    """What a prepared image must satisfy, and how much work preparing it may cost.

    `max_edge` and `quality` come from the preset; `model_edge` and `model_tokens` are the model's vision tier, above
    which the server would shrink the image itself (https://platform.claude.com/docs/en/build-with-claude/vision).
    `max_base64_bytes` is the API's limit on the base64 text of one image, a third more than the file's bytes.
    """

    max_edge: int
    quality: int
    model_edge: int
    model_tokens: int
    max_base64_bytes: int = 10_000_000
    max_pixels: int = 250_000_000
    max_source_bytes: int = 200_000_000
    max_pages: int = 50
    seconds: float = 60.0
    webp: bool = field(default=False, repr=False)  # small pictures for people; kept batches know rules by their repr


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """One page of one file as it will be sent.

    A point (x, y) of the sent image lies at ((x - offset_x) / scale_x, (y - offset_y) / scale_y) of the original,
    where the original is the file's page after its EXIF orientation has been applied.
    """

    page: int
    data: bytes = field(repr=False)
    media_type: str
    sha256: str
    width: int
    height: int
    source_format: str
    source_width: int
    source_height: int
    scale_x: float = 1.0
    scale_y: float = 1.0
    offset_x: float = 0.0
    offset_y: float = 0.0
    note: str | None = None
    sent_bytes: int = 0

    def __post_init__(self) -> None:
        if self.data:  # the count outlives the bytes, which are let go once an answer is there
            object.__setattr__(self, "sent_bytes", len(self.data))

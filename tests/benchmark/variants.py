"""What `--full` runs: every latency and number in flight, then larger images, then S3."""

from dataclasses import dataclass
from itertools import product

LATENCIES = (0.05, 0.3, 2.0)
IN_FLIGHT = (10, 50, 200)
TIMED_S = 6.0  # a timed run takes about so long or a little more, wherever the machine keeps up
MOST = 800  # images: what two cores, which the simulator shares, answer in so long
WAVES = 4  # each place has so many turns at least, so that the calls in flight are as many as asked for
LARGE = 60
PATIENCE_S = 20.0  # who needs longer is left out


@dataclass(frozen=True)
class Variant:
    """One table of the benchmark."""

    size: str
    latency: float
    in_flight: int
    images: int
    s3: bool = False
    inside: bool = False  # with a table of CPU by step

    @property
    def name(self) -> str:
        """What tells it from the others."""
        return f"{self.size}, {self.latency:g} s, {self.in_flight}{', S3' if self.s3 else ''}"


def full(most: int | None) -> list[Variant]:
    """All of them, each with `most` images at most."""
    small = [
        Variant("small", latency, places, _images(latency, places), inside=(latency, places) == (0.3, 50))
        for latency, places in product(LATENCIES, IN_FLIGHT)
    ]
    large = [Variant(size, 0.3, 50, LARGE, inside=True) for size in ("large", "phone")]
    s3 = Variant("small", 0.3, 50, MOST // 2, s3=True, inside=True)
    variants = [*small, *large, s3]
    if most is None:
        return variants
    return [Variant(**{**vars(variant), "images": min(variant.images, most)}) for variant in variants]


def _images(latency: float, in_flight: int) -> int:
    waited_for = in_flight * max(TIMED_S / latency, WAVES)
    return min(MOST, round(waited_for))

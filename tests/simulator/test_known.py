"""The simulator that knows a sample's truth and gives so large a share of it wrong as it is told."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tasks.schemas import load_schema
from tasks.simulator import Simulator
from tasks.simulator.known import Rates
from tests.runs import draw
from tests.simulator_requests import body_of, image_block, post, with_schema

SCHEMA = load_schema("receipt").api


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """Forty pictures with labels beside them."""
    draw(tmp_path, 40)
    labels = [
        {"image": f"p{number:03}.jpg", "company": f"Shop {number}", "date": "2026-05-09", "total": f"{number + 1}.50"}
        for number in range(40)
    ]
    (tmp_path / "truth.jsonl").write_text("\n".join(map(json.dumps, labels)))
    return tmp_path


def asked(simulator: Simulator, picture: bytes, **more: Any) -> dict[str, Any]:
    body = body_of(image_block(picture, "image/jpeg"), **with_schema(dict(SCHEMA)), **more)
    status, _, message = post(simulator, body)
    assert status == 200
    answer: dict[str, Any] = json.loads(message["content"][-1]["text"])
    return answer


def test_an_image_is_known_again_when_it_was_encoded_anew(sample: Path) -> None:
    with Simulator(truth=str(sample / "truth.jsonl")) as simulator:
        with Image.open(sample / "p007.jpg") as picture:
            buffer = BytesIO()
            picture.resize((45, 30)).save(buffer, "JPEG", quality=60)
        answer = asked(simulator, buffer.getvalue())
        assert (answer["company"], answer["date"], answer["total"]) == ("Shop 7", "2026-05-09", 8.5)
        other = Image.effect_noise((60, 40), 200).convert("RGB")
        other.save(buffer := BytesIO(), "JPEG")
        assert asked(simulator, buffer.getvalue())["company"] != "Shop 7", "one that it does not know is no shop's"


def test_the_share_that_is_wrong_is_the_one_asked_for_and_depends_on_nothing_but_what_is_asked(sample: Path) -> None:
    pictures = [path.read_bytes() for path in sorted(sample.glob("*.jpg"))]
    errors = "claude-haiku-5-5=0.3,claude-haiku-5-5@50=1,*=0"
    with Simulator(truth=str(sample / "truth.jsonl"), errors=errors) as simulator:
        answers = [asked(simulator, picture) for picture in pictures]
        again = [asked(simulator, picture) for picture in reversed(pictures)]
        assert again[::-1] == answers
        wrong = sum(
            answer[field] != right
            for number, answer in enumerate(answers)
            for field, right in (("company", f"Shop {number}"), ("date", "2026-05-09"), ("total", number + 1.5))
        )
        assert 20 <= wrong <= 52, "36 of 120, give or take"
        assert [asked(simulator, one, model="claude-opus-5-5")["total"] for one in pictures[:3]] == [
            1.5,
            2.5,
            3.5,
        ]
        with Image.open(sample / "p007.jpg") as picture:
            picture.resize((45, 30)).save(buffer := BytesIO(), "JPEG")
        small = asked(simulator, buffer.getvalue())
        assert small["company"] != "Shop 7" and small["total"] != 8.5, "at this size all is wrong"
        anew = [asked(simulator, one, prompt="Again?") for one in pictures]
        assert anew != answers, "another prompt errs elsewhere"


def test_rates() -> None:
    rates = Rates.parse("a=0.1, a@1024=0.2, a@512=0.4, *=0.01")
    assert [rates.of("a", edge) for edge in (400, 512, 513, 2000)] == [0.4, 0.4, 0.2, 0.1]
    assert rates.of("b", 400) == 0.01
    assert Rates.parse("").of("a", 1) == 0


@pytest.mark.parametrize("errors", ["a", "a=x", "a=2", "a@big=0.1"])
def test_a_rate_that_is_none_is_refused(errors: str) -> None:
    with pytest.raises(ValueError, match="is no MODEL=SHARE"):
        Rates.parse(errors)


def test_errors_need_labels() -> None:
    with pytest.raises(ValueError, match="errors without labels"), Simulator(errors="a=0.1"):
        pass

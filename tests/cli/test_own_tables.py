"""A user's own presets, endpoints and prices go over the packaged ones; a mistake in them names the file."""

from decimal import Decimal
from pathlib import Path

import pytest

from config.endpoints import endpoint
from config.models import model_facts
from config.presets import preset, preset_names
from config.prices import prices_of
from config.user_files import ConfigError
from flows.__main__ import main
from flows.cli.jobs import check_tables
from tasks.simulator import Simulator
from tests.own_tables import OwnTables, own_tables
from tests.runs import draw

__all__ = ["own_tables"]  # a fixture

GATEWAY = """
[mygateway]
base_url = "https://gateway.example.com"
auth = "x-api-key"
key_env = "MYGATEWAY_API_KEY"
prices = "mygateway"
cny_per_usd = 7.02
structured_outputs = false
count_tokens = false
has_models_api = false
caching = false
max_base64_bytes = 5_000_000
"""
PRICES = """
[source.mygateway]
url = "https://gateway.example.com/pricing"
checked = 2026-11-23

[[price]]
endpoint = "mygateway"
model = "claude-sonnet-5-5"
vendor = "Anthropic"
input = "2.20"
output = "11"
cache_write_5m = "2.75"
cache_write_1h = "4.40"
cache_read = "0.11"
"""


def test_the_packaged_tables_can_be_used() -> None:
    check_tables()


def test_a_new_row_stands_beside_the_others(own_tables: OwnTables) -> None:
    own_tables(
        endpoints=GATEWAY, prices=PRICES, presets='[shelf]\nmax_edge = 900\nquality = 90\nmax_tokens = 99\nprompt = "?"'
    )
    check_tables()
    assert endpoint("mygateway").cny_per_usd == Decimal("7.02")
    assert endpoint("https://gateway.example.com/v1").name == "mygateway"
    assert preset_names()[-1] == "shelf"
    assert [price.input for price in prices_of("mygateway", "claude-sonnet-5-5")] == [Decimal("2.20")]
    assert len(prices_of("anthropic", "claude-haiku-5-5")) == 2


def test_a_known_row_keeps_what_is_not_said_anew(own_tables: OwnTables) -> None:
    before = preset("ocr")
    own_tables(presets="[ocr]\nquality = 80", models="[claude-haiku-5-5]\nmax_output = 1000")
    assert preset("ocr").quality == 80
    assert (preset("ocr").prompt, preset("ocr").max_edge) == (before.prompt, before.max_edge)
    assert (model_facts("claude-haiku-5-5").max_output, model_facts("claude-haiku-5-5").vision) == (1000, "high")


def test_the_prices_of_a_model_are_replaced_together(own_tables: OwnTables) -> None:
    own_tables(prices=PRICES.replace("mygateway", "anthropic").replace("claude-sonnet-5-5", "claude-haiku-5-5"))
    (only,) = prices_of("anthropic", "claude-haiku-5-5")
    assert (only.input, only.source) == (Decimal("2.20"), "https://gateway.example.com/pricing")


MISTAKES = [
    ("presets", "[ocr", "presets.toml is not TOML: "),
    ("presets", "ocr = 3", "presets.toml holds something else than [NAME] tables."),
    ("presets", "[ocr]\nmax_egde = 3", "presets.toml: [ocr] there is no field 'max_egde'. Take max_edge."),
    ("presets", "[ocr]\nmax_edge = 'big'", "presets.toml: [ocr] max_edge must be a valid integer"),
    ("presets", "[shelf]\nmax_edge = 3", "presets.toml: [shelf] the field 'quality' is missing."),
    (
        "endpoints",
        GATEWAY.replace("key_env", "key"),
        "endpoints.toml: [mygateway] there is no field 'key'. Take key_env.",
    ),
    ("endpoints", GATEWAY.replace('"x-api-key"', '"basic"'), "endpoints.toml: [mygateway] auth must be 'bearer', "),
    ("models", "[claude-haiku-5-5]\nvision = 'best'", "models.toml: [claude-haiku-5-5] vision must be 'standard' or"),
    ("prices", "[mygateway]\na = 1", "prices.toml holds something else than [source.NAME] and [[price]]."),
    ("prices", "price = [3]", "prices.toml holds something else than [source.NAME] and [[price]]."),
    (
        "prices",
        PRICES.replace("checked", "when"),
        "prices.toml: a price of 'mygateway' needs a [source.mygateway] with",
    ),
    (
        "prices",
        f"{PRICES}cache = 3",
        "prices.toml: [price of claude-sonnet-5-5 at mygateway] there is no field 'cache'.",
    ),
    (
        "preset",
        "",
        "preset.toml stands for no table. Name it one of: endpoints.toml, models.toml, presets.toml, prices",
    ),
]


@pytest.mark.parametrize(("table", "text", "said"), MISTAKES)
def test_a_mistake_names_the_file_before_anything_is_listed(
    own_tables: OwnTables, capsys: pytest.CaptureFixture[str], table: str, text: str, said: str
) -> None:
    folder = own_tables(**{table: text})
    for command in (["run", "photos", "--output", "out"], ["estimate", "photos"], ["prices"]):
        assert main(command) == 2
        line = capsys.readouterr().err
        assert line.startswith(f"visionflow: {folder}/{said}")
        assert line.count("\n") == 1


def test_a_folder_that_is_not_there(monkeypatch: pytest.MonkeyPatch, own_tables: OwnTables, tmp_path: Path) -> None:
    own_tables()
    monkeypatch.setenv("VISIONFLOW_CONFIG", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="VISIONFLOW_CONFIG: there is no folder"):
        check_tables()


@pytest.mark.parametrize("pasted", ["sk-ant-hunter2", "hunter2 hunter2", "2hunter2", "hunter-2"])
def test_a_key_in_the_place_of_its_variable_is_refused_and_not_repeated(own_tables: OwnTables, pasted: str) -> None:
    own_tables(endpoints=GATEWAY.replace("MYGATEWAY_API_KEY", pasted))
    with pytest.raises(ConfigError, match="key_env must be the name of an environment variable") as caught:
        endpoint("mygateway")
    assert "hunter" not in str(caught.value)


def test_a_password_in_the_address_of_an_endpoint_is_refused_and_not_repeated(own_tables: OwnTables) -> None:
    own_tables(endpoints=GATEWAY.replace("https://", "https://me:hunter2@"))
    with pytest.raises(ConfigError, match="base_url must not hold a user, a password or a query") as caught:
        endpoint("mygateway")
    assert "hunter" not in str(caught.value)


@pytest.mark.usefixtures("prefect_server")
def test_a_run_by_tables_of_ones_own(
    own_tables: OwnTables, simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The packaged program, a preset and a gateway of the user's: prices, key and prompt are theirs."""
    from tasks.orchestration.summary import summary_of
    from tasks.storage.output import open_output

    own_tables(
        presets='[shelf]\nmax_edge = 900\nquality = 90\nmax_tokens = 99\nprompt = "Which product is this?"',
        endpoints=GATEWAY.replace("https://gateway.example.com", simulator.url),
        prices=PRICES,
    )
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    monkeypatch.setenv("MYGATEWAY_API_KEY", "sk-ant-of-a-test")
    images, out = draw(tmp_path / "images", 2), tmp_path / "out"
    model = ["--model", "claude-sonnet-5-5", "--preset", "shelf", "--endpoint", "mygateway"]
    assert main(["run", str(images), "--output", str(out), *model, "--no-progress"]) == 0
    output = open_output(str(out))
    (row,) = output.read_table("runs").to_pylist()
    (cost,) = output.read_table("costs").to_pylist()
    assert (cost["preset"], cost["price_source"]) == ("shelf", "https://gateway.example.com/pricing")
    assert cost["cost_usd"] == (cost["input_tokens"] * Decimal("2.2") + cost["output_tokens"] * 11) / 1_000_000
    assert summary_of(output, row | {"job": "images"}, [cost])["cost_cny"] == float(cost["cost_usd"] * Decimal("7.02"))

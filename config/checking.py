"""Checking every row of every TOML file at once, so that a mistake of the user's shows before a run begins."""

from config.endpoints import endpoint_names, endpoint_row
from config.models import listed_models, model_facts
from config.presets import preset, preset_names
from config.prices import price_table


def check_tables() -> None:
    """Raise ConfigError for the first row, packaged or the user's own, that cannot be used."""
    for name in endpoint_names():
        endpoint_row(name)
    for name in listed_models():
        model_facts(name)
    for name in preset_names():
        preset(name)
    price_table()

"""What is wrong with a job, in a person's words: one value, and why it cannot be."""

from typing import Any

WRONG = {
    "extra_forbidden": "is a setting that does not exist",
    "literal_error": "is not one of {expected}",
    "greater_than": "is not allowed: it must be more than {gt}",
    "greater_than_equal": "is not allowed: it must be at least {ge}",
    "less_than_equal": "is not allowed: it must be at most {le}",
    "string_type": "is no text; put it in quotes",
    "tuple_type": "is no list",
    "value_error": "{error}",
    "decimal_max_places": "has more than {decimal_places} decimals",
    "string_pattern_mismatch": "is no name of a block: it has small letters, digits and dashes",
    "model_type": "is no job, which has settings by name",
}
WRONG_KINDS = {
    "int": "is no whole number",
    "float": "is no number",
    "decimal": "is no number",
    "finite": "is no number",
    "bool": "is neither true nor false",
}


def explained(problem: Any) -> str:
    """The value of one of pydantic's errors, and what is wrong with it."""
    kind, value = problem["type"], repr(problem["input"])
    said = WRONG.get(kind) or WRONG_KINDS.get(kind.partition("_")[0])
    context = {name: str(one).removesuffix(".0") for name, one in problem.get("ctx", {}).items()}
    if "expected" in context:
        context["expected"] = context["expected"].replace(" or ", ", ")
    said = said.format(**context) if said else problem["msg"]
    return f"{value if len(value) <= 80 else value[:80] + '...'} {said}"

"""Text that is on its way out: into Parquet, JSON for Prefect's API, a page or a terminal, all of them UTF-8."""


def as_utf8(text: str) -> str:
    r"""The text, with halves of surrogate pairs, which UTF-8 cannot hold, written as `\udce9`.

    They stand in the names of local files that are no UTF-8, and may stand in an answer, whose JSON allows them.
    """
    return text.encode("utf-8", "backslashreplace").decode()

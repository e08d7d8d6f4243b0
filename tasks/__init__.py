"""The steps of a run, a room each: list, prepare, ask, record, report.

What they share has rooms beside them: planning, billing, schemas, storage, `errors.py` and `types.py`. All are plain
Python; `orchestration` alone knows Prefect and turns the steps into its tasks.
"""

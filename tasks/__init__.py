"""The steps of a run, in order: list, prepare, ask, record, report.

Each step is a module or a package of plain functions that know nothing of Prefect; `tasks.steps` alone
turns them into Prefect tasks.
"""

"""Prefect: tasks, result store, window, artifacts, the flow's last state. The only room that imports it."""

"""Whole files here and on S3: sources, tables, kept answers."""

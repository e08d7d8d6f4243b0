"""Tests of labels, in and out."""

"""Explain, check and reports."""

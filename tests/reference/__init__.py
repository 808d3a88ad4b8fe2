"""Slow reference implementations: plain loops, written from the formulas."""

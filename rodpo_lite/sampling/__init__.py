"""Negative sampling: what may be rejected, and which of it a selector draws."""

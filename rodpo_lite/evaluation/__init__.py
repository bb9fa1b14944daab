"""Ranks, metrics, plain baselines, and intervals for comparisons."""

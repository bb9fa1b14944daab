"""Datasets: the canonical format, the synthetic world, the split and packed batches."""

"""The runnable companion of RoDPO (arXiv 2603.29259): data, models, alignment and the analysis of false negatives."""

__version__ = "0.1.0"

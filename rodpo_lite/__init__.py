"""RoDPO (arXiv 2603.29259) in small: data, model, losses, negative sampling, training, evaluation and mechanism."""

import os

__version__ = "0.1.0"

# Before torch is loaded: OpenMP's threads soon sleep when they wait. By default they spin for cores that other programs
# keep busy, and a page then takes six times as long; an idle machine is as fast either way.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

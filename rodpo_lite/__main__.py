"""`python -m rodpo_lite` is `rodpo`: for torchrun, as in `torchrun --nproc-per-node 2 -m rodpo_lite train …`."""

from rodpo_lite.cli import main

main()

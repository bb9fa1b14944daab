"""Training of the reference and of the policy, and the folders of runs."""

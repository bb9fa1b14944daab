"""What the chapters show on small worlds whose truth is known: pushes, experts, a shop, and the lab."""

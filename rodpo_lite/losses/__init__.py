"""Preference losses, and the cross-entropies that they stand beside."""

"""What selection does to false negatives."""

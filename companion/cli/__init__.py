"""What the companion adds to the command line: grid, book and check."""

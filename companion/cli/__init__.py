"""What the companion adds to the command line: grid, book, check and report."""

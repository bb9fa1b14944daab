"""What the project is put through: kills, broken files. `make trust` runs all of it, `make test` a sample."""

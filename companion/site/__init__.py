"""The book: figures, pages, execution, build and regression check."""

"""Parts of pages that are more than a figure: the facts of the first page, its picture, the board, live repetitions."""

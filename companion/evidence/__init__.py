"""The recorded runs: how they are declared, made, kept, compared and judged."""

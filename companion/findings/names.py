"""What readers call things: `book/sentences/names.yml`, by kind."""

from pathlib import Path

from rodpo_lite.files import read_yaml

NAMES = read_yaml(Path(__file__).resolve().parents[2] / "book" / "sentences" / "names.yml", "The list of names")

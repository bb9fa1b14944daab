"""Still pictures of figures, from and to any path."""

import os
import subprocess
import sys
from pathlib import Path

import kaleido
import plotly
import pytest

DRAW = """
from companion.site.execution import _pictures
import kaleido
bar = {"data": [{"type": "bar", "x": ["a"], "y": [1]}], "layout": {"title": {"text": "Über"}}}
(picture,) = _pictures([bar])
print(kaleido.__file__, picture[:4])
assert picture.startswith(b"<svg") and "Über".encode() in picture
"""


@pytest.mark.parametrize("name", ["plain", "with a space", "é", "two  spaces, ü & more"])
def test_pictures_are_drawn_wherever_the_libraries_and_temporary_files_lie(name, tmp_path):
    place = tmp_path / name
    (place / "lib").mkdir(parents=True)
    (place / "tmp").mkdir()
    for library in (kaleido, plotly):
        folder = Path(library.__file__).parent
        (place / "lib" / folder.name).symlink_to(folder)
    path = os.pathsep.join([str(place / "lib"), str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "TMPDIR": str(place / "tmp"), "PYTHONIOENCODING": "utf-8"}
    drawn = subprocess.run([sys.executable, "-c", DRAW], env=environment, capture_output=True, text=True, timeout=300)
    assert drawn.returncode == 0, drawn.stderr[-3000:]
    assert str(place) in drawn.stdout and list((place / "tmp").iterdir()) == []

"""Jobs that are killed, disks that are full, files that were cut short: nothing is lost."""

from trust.faults import kill_all


def test_killed_runs_end_like_one_that_was_not(tmp_path):
    """A sample; `make trust` kills more often, and evaluations, grids and builds of a book as well."""
    found = kill_all({"train": 2, "align": 1}, tmp_path, cold_share=0)
    assert found["kills"] == 3 and found["different"] == 0

"""The default experiment through the shipped profile."""


def test_from_clone_to_report(slurm, clone):
    done = clone.run()
    assert done.returncode == 0, done.stderr[-6000:]
    assert (clone.folder / "results" / "report.html").stat().st_size > 10_000
    assert "pixels" in (clone.folder / "results" / "leaderboard.csv").read_text()

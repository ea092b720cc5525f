"""The failed run of the literature is named by the rules of health, and a better manifest does better on the same data.

It takes the tiny model that `make setup` made, and about 40 seconds of one core.
"""

import os
from pathlib import Path

# As the trainer itself does: threads that spin take six times as long beside other work. It is read with torch.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from bench.rl import failed_run

FEW_PERCENT, TIMES_BETTER = 0.05, 5


def test_a_run_that_learns_the_form_only_is_named_and_a_better_manifest_is_right(tmp_path: Path) -> None:
    runs = failed_run.Runs(tmp_path)
    start = runs.start()
    report, failed = runs.failed(start, steps=40)
    found = {finding.rule: finding.message for finding in report.health}
    assert "train with sft first, write groupSize: 8 or more, and pay less for the form" in found["RewardHacking"]
    before, after = failed_run.form(failed._replace(adapter=None)), failed_run.form(failed)
    assert after > before + 0.3
    assert failed_run.success(failed) <= FEW_PERCENT
    report, better = runs.better(start, steps=8)
    assert report.health == []
    assert failed_run.success(better) >= TIMES_BETTER * FEW_PERCENT

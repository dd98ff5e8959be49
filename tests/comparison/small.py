"""What tests of comparisons share."""

from distrai.comparison.cells import Cell
from distrai.comparison.laboratory import Laboratory

CLOCKS = ("wall_s", "cpu_s", "step_s")


def figures(found):
    """The figures of a cell without what a clock says."""
    return {key: value for key, value in found.items() if key not in CLOCKS}


def samples_read(plan, monkeypatch, preset, inner_steps):
    """The samples that all peers of an arm read in 12 steps."""
    algorithm = {} if preset == "ddp" else {"inner_steps": inner_steps}
    comparison = plan(arms=[{"name": "it", "preset": preset, "algorithm": algorithm}])
    lab, read = Laboratory(comparison, "cpu"), []
    train = lab.dataset("train")
    batch = train.batch
    monkeypatch.setattr(train, "batch", lambda indices: read.extend(indices) or batch(indices))
    lab.train(Cell(comparison.arms[0], 1, "held_out", 12))
    return read

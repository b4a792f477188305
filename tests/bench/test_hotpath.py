"""The hot-path benchmark, very small: every stage of every line is timed."""

from __future__ import annotations

from bench.hotpath import BATCHES, lines_of, step_alone, table
from bench.synthetic import Synthetic
from models.config import EvolutionConfig
from models.serving import ServingModel


def test_every_stage_is_timed() -> None:
    synthetic = Synthetic.of(400)
    release = synthetic.release(EvolutionConfig(dim=16, layers=2, heads=2, window=8, hidden=32))
    lines = lines_of(synthetic, release, users=300, events=256)
    expected = [(blend, on, b) for blend in (False, True) for on in (True, False) for b in BATCHES]
    assert [(line.blend, line.marginals, line.batch) for line in lines] == expected
    for line in lines:
        assert set(line.stages) == {"decode", "fold", "evolve", "retrieve", "blend", "adjust", "correct", "encode"}
        assert line.total == sum(line.stages.values()) > 0
    assert table(lines).row_count == len(lines)
    assert step_alone(ServingModel(release), users=100, batches=2) > 0

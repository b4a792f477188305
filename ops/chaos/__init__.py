"""Chaos: the real system on a broker of its own, things that go wrong at seeded times, and a checker of what is left.

`schedule.py` says what goes wrong and when, `run.py` does it, `checker.py` reads the topics afterwards and finds what
was lost, doubled, invented or mixed up. The checker shares no code with engine and pipeline.
"""

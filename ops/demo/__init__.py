"""`driftline demo`: the whole system at work on MovieLens 100K, measured from outside while it runs.

`run.py` tells the order of things; `children.py` the processes, `feed.py` what they are fed, `traffic.py` the live
events and their latency, `judge.py` what an outsider reads of the answers, `story.py` one user's change, `screen.py`
and `report.py` what is shown and written of it all. Nothing here computes a recommendation.
"""

"""What people do with dead letters: find, read, send again, delete.

`letters.py` says what a letter is, `mailbox.py` reads the topic, `overview.py` sums letters up, `plan.py` says which
would be sent again, `replay.py` sends them exactly once, `purge.py` deletes. Prints nothing: that is
`ops/commands/dlq.py` with `printing.py`.
"""

"""Off-policy evaluation: what another policy would have earned on logged traffic, and how sure that is.

Arrays only, here and in all modules but `slate_log` and `slate_target`, which read driftline's own decisions; nothing
here knows of files or Kafka. Start at `report`.
"""

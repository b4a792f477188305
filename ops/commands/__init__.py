"""The commands of `driftline`, one module each; `ops/cli.py` puts them together.

A command module imports at its top only what is needed to describe the command. What takes long to import
(torch, faust, aiokafka, transformers, and `ops.settings` for pydantic) is imported inside the functions that
use it, so that help stays instant.
"""

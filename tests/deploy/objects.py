"""Checks Kubernetes objects: built-in kinds against lightkube's typed models, custom ones against deploy/schemas.

So a field that Kubernetes does not have, or one of another type, is found without a cluster. An API server ignores an
unknown field, or refuses the object; either way a typo is not what was meant.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import msgspec
from jsonschema import Draft202012Validator

from tests.deploy.tools import DEPLOY

_MODULES = {
    "v1": "core_v1",
    "apps/v1": "apps_v1",
    "batch/v1": "batch_v1",
    "policy/v1": "policy_v1",
    "networking.k8s.io/v1": "networking_v1",
}


def problems(thing: dict[str, Any]) -> list[str]:
    """What is wrong with one object, a line each, by the path of the field."""
    version, kind = thing.get("apiVersion", ""), thing.get("kind", "")
    schema = DEPLOY / "schemas" / f"{kind.lower()}.json"
    if schema.exists():
        errors = Draft202012Validator(json.loads(schema.read_text())).iter_errors(thing)
        return [f"{kind}{''.join(f'.{part}' for part in error.absolute_path)}: {error.message}" for error in errors]
    model = _models().get((version, kind))
    if model is None:
        return [f"{version} {kind}: no such kind"]
    try:
        read = msgspec.convert(thing, model)
    except msgspec.ValidationError as error:
        return [f"{kind}: {error}"]
    return list(_lost(thing, msgspec.to_builtins(read), kind))


@cache
def _models() -> dict[tuple[str, str], type[msgspec.Struct]]:
    return {
        (version, name): model
        for version, module in _MODULES.items()
        for name, model in vars(importlib.import_module(f"lightkube.models.{module}")).items()
        if isinstance(model, type) and issubclass(model, msgspec.Struct)
    }


def _lost(given: Any, read: Any, path: str) -> Iterator[str]:
    """What a model has no place for is not in it any more once it was read."""
    if isinstance(given, dict):
        for name, value in given.items():
            if value is not None and not (isinstance(read, dict) and name in read):
                yield f"{path}.{name}: there is no such field"
            elif value is not None:
                yield from _lost(value, read[name], f"{path}.{name}")
    elif isinstance(given, list):
        for at, value in enumerate(given):
            yield from _lost(value, read[at], f"{path}[{at}]")

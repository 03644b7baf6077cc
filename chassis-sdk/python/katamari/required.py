"""Checks that decoded arguments have all required fields. Generated Python checks only the outermost struct, and only
when `validate` is called. This module also checks nested structs, but visits only types that can contain a struct
with a required field. Most interfaces have none and cost nothing."""

from __future__ import annotations

import functools
from typing import Any, Callable

from thrift.Thrift import TType

Check = Callable[[Any], None]


def required_check(kind: Any) -> Check:
    """Returns a function that raises TProtocolException if a struct of that type, or one in it, lacks a required
    field."""
    return _checks_of(kind, {}) or _nothing


def _nothing(_: Any) -> None:
    return None


def _checks_of(kind: Any, known: dict[Any, Check | None]) -> Check | None:
    """Returns the check of a struct type; None if there is nothing to check. `known` ends the recursion for recursive
    types: a type that is still being resolved uses its own check."""
    if kind in known:
        return known[kind]
    fields: list[tuple[str, Check]] = []
    own = getattr(kind, 'validate', None)

    def check(value: Any) -> None:
        if own is not None:
            own(value)
        for name, inner in fields:
            found = getattr(value, name)
            if found is not None:
                inner(found)

    known[kind] = check
    for field in kind.thrift_spec or ():
        inner = None if field is None else _check_of_value(field[1], field[3], known)
        if inner is not None:
            fields.append((field[2], inner))
    if not fields and not _requires(kind):
        known[kind] = None
    return known[kind]


def _check_of_value(type: int, details: Any, known: dict[Any, Check | None]) -> Check | None:
    if type == TType.STRUCT:
        return _checks_of(details[0], known)
    if type in (TType.LIST, TType.SET):
        element = _check_of_value(details[0], details[1], known)
        return None if element is None else functools.partial(_check_each, element)
    if type == TType.MAP:
        key = _check_of_value(details[0], details[1], known) or _nothing
        value = _check_of_value(details[2], details[3], known) or _nothing
        return None if key is _nothing and value is _nothing else functools.partial(_check_entries, key, value)
    return None


def _check_each(check: Check, values: Any) -> None:
    for value in values:
        check(value)


def _check_entries(check_key: Check, check_value: Check, entries: Any) -> None:
    for key, value in entries.items():
        check_key(key)
        check_value(value)


def _requires(kind: Any) -> bool:
    """Whether an empty struct of the type is invalid. A required field with a default is always set."""
    if not hasattr(kind, 'validate'):
        return False
    try:
        kind().validate()
    except Exception:
        return True
    return False

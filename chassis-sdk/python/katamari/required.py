"""Checks decoded arguments for what the library lets pass. Each check visits only the types that can contain what it
looks for.

- Required fields: generated Python checks only the outermost struct, and only when `validate` is called. Most
  interfaces have no required fields and cost nothing.
- Text that is not UTF-8: the accelerated reader puts U+FFFD in the place of such bytes."""

from __future__ import annotations

import functools
from typing import Any, Callable, NamedTuple

from thrift.Thrift import TType

Check = Callable[[Any], None]


class Replaced(Exception):
    """Text has the character U+FFFD: the client sent it, or it stands for bytes that are not UTF-8."""


class _Rule(NamedTuple):
    """What is checked of a struct type itself and of a text; None for nothing."""

    of_struct: Callable[[Any], Check | None]
    of_text: Check | None


def required_check(kind: Any) -> Check:
    """Returns a function that raises TProtocolException if a struct of that type, or one in it, lacks a required
    field."""
    return _checks_of(kind, {}, _REQUIRED) or _nothing


def text_check(kind: Any) -> Check:
    """Returns a function that raises Replaced if a text in a struct of that type may have been altered."""
    return _checks_of(kind, {}, _TEXT) or _nothing


def _nothing(_: Any) -> None:
    return None


def _checks_of(kind: Any, known: dict[Any, Check | None], rule: _Rule) -> Check | None:
    """Returns the check of a struct type; None if there is nothing to check. `known` ends the recursion for recursive
    types: a type that is still being resolved uses its own check."""
    if kind in known:
        return known[kind]
    fields: list[tuple[str, Check]] = []
    own = rule.of_struct(kind)

    def check(value: Any) -> None:
        if own is not None:
            own(value)
        for name, inner in fields:
            found = getattr(value, name)
            if found is not None:
                inner(found)

    known[kind] = check
    for field in kind.thrift_spec or ():
        inner = None if field is None else _check_of_value(field[1], field[3], known, rule)
        if inner is not None:
            fields.append((field[2], inner))
    if not fields and own is None:
        known[kind] = None
    return known[kind]


def _check_of_value(type: int, details: Any, known: dict[Any, Check | None], rule: _Rule) -> Check | None:
    if type == TType.STRING:
        return rule.of_text if details == 'UTF8' else None
    if type == TType.STRUCT:
        return _checks_of(details[0], known, rule)
    if type in (TType.LIST, TType.SET):
        element = _check_of_value(details[0], details[1], known, rule)
        return None if element is None else functools.partial(_check_each, element)
    if type == TType.MAP:
        key = _check_of_value(details[0], details[1], known, rule) or _nothing
        value = _check_of_value(details[2], details[3], known, rule) or _nothing
        return None if key is _nothing and value is _nothing else functools.partial(_check_entries, key, value)
    return None


def _check_each(check: Check, values: Any) -> None:
    for value in values:
        check(value)


def _check_entries(check_key: Check, check_value: Check, entries: Any) -> None:
    for key, value in entries.items():
        check_key(key)
        check_value(value)


def _validation(kind: Any) -> Check | None:
    """Returns the check of required fields, if an empty struct of the type is invalid. A required field with a default
    is always set."""
    validate: Check | None = getattr(kind, 'validate', None)
    if validate is None:
        return None
    try:
        kind().validate()
    except Exception:
        return validate
    return None


def _check_text(text: str) -> None:
    if '\ufffd' in text:
        raise Replaced


_REQUIRED = _Rule(_validation, None)
_TEXT = _Rule(_nothing, _check_text)

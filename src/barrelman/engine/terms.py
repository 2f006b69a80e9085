"""A field's values as Elasticsearch's `terms` and `composite` aggregations see them.

A *term* is a value as the field's type indexes it: the keyword 5 is the text "5", two spellings of
one instant or address are one term, and what does not suit the type is none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from barrelman.engine.places import Scope, Shape, read_below
from barrelman.engine.reading import Combination, FieldReader, field_reader
from barrelman.engine.values import as_date_ms, as_number, keyword_text
from barrelman.records.addresses import parse_address
from barrelman.records.event import Event
from barrelman.records.fields import Catalogue, FieldType
from barrelman.records.paths import Scalar

_V4: Final = range(0xFFFF << 32, 0x1_0000 << 32)
_TRUTHS: Final = {"true": True, "false": False, "": False}

_Term = Callable[[Scalar], Scalar | None]


def term_reader(name: str, *, catalogue: Catalogue) -> FieldReader:
    """Reads the terms of a field; those of an array each. None where only nested queries look."""
    kind = catalogue.type_of(name)
    if kind is FieldType.NESTED:
        return lambda event: []
    if kind is FieldType.FLATTENED and catalogue.exact.get(name) is FieldType.FLATTENED:
        read = _below(name, catalogue)
    else:
        read = field_reader(name, catalogue=catalogue)
    term = _TERMS.get(kind)
    if term is None:
        return read

    def read_terms(event: Event) -> list[Scalar]:
        values = read(event)
        for value in values:
            if type(value) is not str or term is not _keyword:
                return [found for each in values if (found := term(each)) is not None]
        return values

    return read_terms


def composite_order(
    names: Sequence[str], *, catalogue: Catalogue
) -> Callable[[Combination], tuple[Any, ...]]:
    """The key by which a `composite` aggregation over these fields sorts its buckets.

    Ascending: numbers before texts, texts as their bytes in UTF-8 (which is the order of code
    points), addresses as the numbers they are.
    """
    addresses = tuple(catalogue.type_of(name) is FieldType.IP for name in names)
    if not any(addresses):
        return lambda terms: tuple([(type(term) is str, term) for term in terms])
    return lambda terms: tuple(
        [
            (type(term) is str, parse_address(term) if is_address else term)
            for term, is_address in zip(terms, addresses, strict=True)
        ]
    )


def _below(name: str, catalogue: Catalogue) -> FieldReader:
    raw, document = (read_below(name, Scope(shape, catalogue=catalogue)) for shape in Shape)
    return lambda event: (document if event.is_document else raw)(event)


def _keyword(value: Scalar) -> Scalar | None:
    return keyword_text(value)


def _boolean(value: Scalar) -> Scalar | None:
    if type(value) is bool:
        return value
    return _TRUTHS.get(value) if type(value) is str else None


def _address(value: Scalar) -> Scalar | None:
    address = parse_address(value)
    if address is None or type(value) is not str:
        return None
    if ":" not in value:
        return value
    import ipaddress  # late, as few rules group by addresses

    if address in _V4:
        return str(ipaddress.IPv4Address(address & 0xFFFF_FFFF))
    return str(ipaddress.IPv6Address(address))


_TERMS: Final[dict[FieldType | None, _Term]] = {
    FieldType.KEYWORD: _keyword,
    FieldType.FLATTENED: _keyword,
    FieldType.TEXT: _keyword,
    FieldType.VERSION: _keyword,
    FieldType.BOOLEAN: _boolean,
    FieldType.LONG: lambda value: as_number(value, whole=True),
    FieldType.DOUBLE: lambda value: as_number(value, whole=False),
    FieldType.DATE: as_date_ms,
    FieldType.IP: _address,
}

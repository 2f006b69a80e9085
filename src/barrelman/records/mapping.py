"""An Elasticsearch mapping -> the catalogue of its fields.

Takes what `GET index/_mapping` answers, a `mappings` or `properties` object alone, and an index
template. What of a mapping has no effect here is said in a note; what cannot be a mapping is an
error.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from barrelman.errors import MappingError
from barrelman.records.fields import Catalogue, FieldPlace, FieldType
from barrelman.records.frozen import frozen
from barrelman.records.paths import Scalar

_TYPES: Final = {
    **{kind.value: kind for kind in FieldType},
    "counted_keyword": FieldType.KEYWORD,
    **dict.fromkeys(
        ("match_only_text", "annotated_text", "search_as_you_type", "pattern_text"), FieldType.TEXT
    ),
    **dict.fromkeys(
        ("integer", "short", "byte", "unsigned_long", "token_count", "murmur3"), FieldType.LONG
    ),
    **dict.fromkeys(("float", "half_float", "scaled_float"), FieldType.DOUBLE),
    "date_nanos": FieldType.DATE,
    "flat_object": FieldType.FLATTENED,
}
_FOREIGN: Final = frozenset(
    {
        *("aggregate_metric_double", "binary", "completion", "date_range", "dense_vector"),
        *("double_range", "exponential_histogram", "float_range", "geo_point", "geo_shape"),
        *("histogram", "integer_range", "ip_range", "join", "knn_vector", "long_range"),
        *("percolator", "point", "rank_feature", "rank_features", "semantic_text", "shape"),
        *("sparse_vector", "tdigest"),
    }
)
"""Types of Elasticsearch that are none here: their fields are typed by their values."""
_OBJECTS: Final = (None, "object", "nested", "passthrough")
_DATE_FORMATS: Final = (
    "strict_date_optional_time",
    "strict_date_optional_time_nanos",
    "date_optional_time",
    "strict_date_time",
    "date_time",
    "strict_date_time_no_millis",
    "date_time_no_millis",
    "strict_date",
    "date",
    "iso8601",
    "epoch_millis",
    "epoch_second",
    "yyyy-MM-dd",
    "uuuu-MM-dd",
    "yyyy-MM-dd HH:mm:ss",
    "yyyy-MM-dd'T'HH:mm:ss",
    "yyyy-MM-dd'T'HH:mm:ssZ",
    "yyyy-MM-dd'T'HH:mm:ss.SSSZ",
    "yyyy-MM-dd'T'HH:mm:ss.SSS'Z'",
    "yyyy-MM-dd HH:mm:ss.SSS",
)
"""Those that dates are read by here, whichever of them is asked for."""
_MOST_LEVELS: Final = 100
_ROOT_KEYS: Final = frozenset(
    {
        *("properties", "dynamic", "runtime", "dynamic_templates", "date_detection"),
        *("numeric_detection", "dynamic_date_formats", "_meta", "_source", "_routing"),
        "_data_stream_timestamp",
    }
)
_WRAPPERS: Final = ("mappings", "mapping", "template", "_doc", "doc")
"""The last two are what an index of old calls its one type of documents."""


@frozen
class IndexMapping:
    """The fields of an index, and what to tell its user of them."""

    catalogue: Catalogue
    notes: tuple[str, ...] = ()
    index: str | None = None
    """The name of the index, where the text of the mapping gives one."""


def parse_mapping(document: object, *, index: str | None = None) -> IndexMapping:
    """Raises MappingError. `index` picks one where the mapping is that of several indices."""
    root, name = _root_of(document, index)
    reader = _Reader()
    reader.root(root)
    return IndexMapping(reader.catalogue(), tuple(reader.notes), name)


def merge_catalogues(catalogues: Sequence[Catalogue]) -> Catalogue:
    """What is known of the fields of several indices together; of two types the first counts.

    Good for checking a query, not for reading events: a field's place is its own index's affair.
    """
    if len(catalogues) == 1:
        return catalogues[0]
    if any(each.names is None for each in catalogues):
        return Catalogue()
    exact: dict[str, FieldType] = {}
    places: dict[str, FieldPlace] = {}
    for each in reversed(catalogues):
        exact.update(each.exact)
        places.update(each.places)
    return Catalogue(
        exact=exact,
        names=frozenset().union(*(each.names or () for each in catalogues)),
        objects=frozenset().union(*(each.objects for each in catalogues)),
        open_objects=frozenset().union(*(each.open_objects for each in catalogues)),
        places=places,
    )


def _root_of(document: object, index: str | None) -> tuple[dict[str, Any], str | None]:
    """The object that holds `properties`, and the name of the index that it is of."""
    found, name = document, None
    for _ in range(_MOST_LEVELS):
        if not isinstance(found, dict):
            hint = 'as {"properties": {"user": {"type": "keyword"}}}'
            raise MappingError("a mapping is a JSON object", hint=hint)
        if not found or not _ROOT_KEYS.isdisjoint(found):
            return found, name
        wrapper = next((key for key in _WRAPPERS if _wraps(found.get(key))), None)
        if wrapper is not None:
            found = found[wrapper]
            continue
        indices = {key: held for key, held in found.items() if _holds(held, "mappings")}
        if indices:
            name = _pick(indices, index)
            found = indices[name]
        elif all(_is_field(held) for held in found.values()):
            return {"properties": found}, name
        else:
            raise MappingError(
                "no mapping: there is neither properties nor mappings in it",
                hint="give what GET index/_mapping answers, or its mappings",
            )
    raise MappingError("a mapping is not wrapped so deep")


def _wraps(value: object) -> bool:
    return isinstance(value, dict) and not isinstance(value.get("type"), str)


def _holds(value: object, key: str) -> bool:
    return isinstance(value, dict) and key in value


def _pick(indices: dict[str, Any], index: str | None) -> str:
    if index in indices:
        return str(index)
    if len(indices) > 1:
        shown = ", ".join(sorted(indices)[:5]) + (" …" if len(indices) > 5 else "")
        hint = "name the input as one of them: --index NAME=PATH --mapping NAME=FILE"
        raise MappingError(f"it maps {len(indices)} indices: {shown}", hint=hint)
    return next(iter(indices))


def _is_field(value: object) -> bool:
    return isinstance(value, dict) and (
        isinstance(value.get("type"), str) or isinstance(value.get("properties"), dict)
    )


class _Reader:
    """Gathers a mapping's fields; aliases and copies are settled when all are known."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.exact: dict[str, FieldType] = {}
        self.names: set[str] = set()
        self.objects: set[str] = set()
        self.open: set[str] = set()
        self.places: dict[str, FieldPlace] = {}
        self.aliases: dict[str, str] = {}
        self.copies: dict[str, list[str]] = {}
        self.parents: dict[str, str] = {}
        """Of each multi-field, its field."""
        self.untyped: dict[str, list[str]] = {}
        self.ignored: dict[str, list[str]] = {}

    def catalogue(self) -> Catalogue:
        self.settle_copies()
        self.settle_aliases()
        for what, fields in self.untyped.items():
            self.notes.append(f"{_some(fields)} of type {what}: typed by values here")
        for what, fields in self.ignored.items():
            self.notes.append(f"{what} has no effect here: {_some(fields)}")
        return Catalogue(
            exact=self.exact,
            names=frozenset(self.names),
            objects=frozenset(self.objects),
            open_objects=frozenset(self.open),
            places=self.places,
        )

    def root(self, root: dict[str, Any]) -> None:
        if root.get("dynamic_templates"):
            self.notes.append("dynamic_templates have no effect here")
        is_open = _is_open(root.get("dynamic"), True)
        if is_open:
            self.open.add("")
        self.properties(root.get("properties"), prefix="", is_open=is_open, level=0)
        for name, spec in _members(root.get("runtime"), "runtime"):
            self.runtime(name, spec)

    def runtime(self, name: str, spec: dict[str, Any]) -> None:
        if "script" in spec:
            self.notes.append(f"the runtime field {name} is not computed: it has no value here")
            self.add_name(name)
            self.places[name] = FieldPlace(())
            return
        self.field(name, {"type": spec.get("type")}, is_open=True, level=0)

    def properties(self, properties: object, *, prefix: str, is_open: bool, level: int) -> None:
        if level > _MOST_LEVELS:
            raise MappingError(f"{prefix[:40]}… nests more than {_MOST_LEVELS} objects")
        for key, spec in _members(properties, f"{prefix}properties"):
            self.field(prefix + key, spec, is_open=is_open, level=level)

    def field(self, name: str, spec: dict[str, Any], *, is_open: bool, level: int) -> None:
        kind = spec.get("type")
        if kind in _OBJECTS:
            self.group(name, spec, is_open=is_open, level=level)
            return
        self.add_name(name)
        if kind == "alias":
            self.alias(name, spec)
            return
        self.leaf(name, kind, spec, source=name)
        for key, inner in _members(spec.get("fields"), f"{name}.fields"):
            sub_name = f"{name}.{key}"
            self.names.add(sub_name)
            self.parents[sub_name] = name
            self.leaf(sub_name, inner.get("type"), inner, source=name)
        copied = spec.get("copy_to", [])
        for target in [copied] if isinstance(copied, str) else copied:
            self.copies.setdefault(target, []).append(name)

    def add_name(self, name: str) -> None:
        """Also the objects that a dotted name tells of."""
        self.names.add(name)
        told = []
        parent = name.rpartition(".")[0]
        while parent and parent not in self.names:
            told.append(parent)
            parent = parent.rpartition(".")[0]
        self.names.update(told)
        self.objects.update(told)
        if parent in self.open:
            self.open.update(told)

    def group(self, name: str, spec: dict[str, Any], *, is_open: bool, level: int) -> None:
        self.add_name(name)
        self.objects.add(name)
        if spec.get("type") == "nested":
            self.exact[name] = FieldType.NESTED
            for option in ("include_in_parent", "include_in_root"):
                if spec.get(option):
                    self.ignored.setdefault(option, []).append(name)
        elif spec.get("enabled") in (False, "false"):
            self.open.discard(name)
            return
        is_open = _is_open(spec.get("dynamic"), is_open)
        (self.open.add if is_open else self.open.discard)(name)
        self.properties(spec.get("properties"), prefix=f"{name}.", is_open=is_open, level=level + 1)

    def leaf(self, name: str, kind: object, spec: dict[str, Any], *, source: str) -> None:
        if not isinstance(kind, str) or not (kind in _TYPES or kind in _FOREIGN):
            raise _unknown_type(name, kind)
        found = _TYPES.get(kind)
        if found is None:
            self.untyped.setdefault(kind, []).append(name)
        else:
            self.exact[name] = found
        self.note_options(name, found, spec)
        if _is_unsearchable(found, spec):
            self.ignored.setdefault("what is not indexed", []).append(name)
            self.places[name] = FieldPlace(())
            return
        place = FieldPlace(
            (source,),
            null_value=_null_value(name, spec) if found is not FieldType.FLATTENED else None,
            ignore_above=_limit(name, spec),
            constant=_constant(spec) if found is FieldType.CONSTANT_KEYWORD else None,
            in_seconds=found is FieldType.DATE and _counts_seconds(spec),
        )
        if place != FieldPlace((name,)):
            self.places[name] = place

    def note_options(self, name: str, kind: FieldType | None, spec: dict[str, Any]) -> None:
        for option in ("normalizer", "analyzer", "search_analyzer", "script"):
            if spec.get(option) not in (None, "standard", "default"):
                self.ignored.setdefault(option, []).append(name)
        if kind is FieldType.DATE:
            formats = str(spec.get("format", "")).split("||")
            unknown = [each for each in formats if each and each not in _DATE_FORMATS]
            for each in unknown:
                self.ignored.setdefault(f"the date format {each}", []).append(name)

    def alias(self, name: str, spec: dict[str, Any]) -> None:
        path = spec.get("path")
        if not isinstance(path, str) or not path:
            raise MappingError(f"{name} is an alias without a path")
        self.aliases[name] = path

    def settle_aliases(self) -> None:
        for name, path in self.aliases.items():
            if path not in self.names or path in self.objects or path in self.aliases:
                raise MappingError(
                    f"{name} is an alias of {path}, which is no field of this mapping"
                )
            if self.nested_above(name) != self.nested_above(path):
                raise MappingError(
                    f"{name} is an alias of {path}, which is in another nested object"
                )
            if path in self.exact:
                self.exact[name] = self.exact[path]
            self.places[name] = self.places.get(path) or FieldPlace((path,))

    def settle_copies(self) -> None:
        for target, sources in self.copies.items():
            place = self.places.get(target) or FieldPlace((target,))
            both = (*place.sources, *(each for each in sources if each not in place.sources))
            self.places[target] = FieldPlace(
                both, null_value=place.null_value, ignore_above=place.ignore_above
            )
            self.add_name(target)
            for name, parent in self.parents.items():
                if parent == target and name in self.places:
                    sub = self.places[name]
                    self.places[name] = FieldPlace(
                        both, null_value=sub.null_value, ignore_above=sub.ignore_above
                    )

    def nested_above(self, name: str) -> str:
        parents = self.exact
        while "." in name:
            name = name.rpartition(".")[0]
            if parents.get(name) is FieldType.NESTED:
                return name
        return ""


# --- single members of a mapping -----------------------------------------------------------


def _members(value: object, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if value is None:
        return
    if not isinstance(value, dict):
        raise MappingError(f"{where} is not an object")
    for key, spec in value.items():
        if not isinstance(spec, dict):
            name = f"{where.removesuffix('properties')}{key}"
            raise MappingError(f"{name} is not an object", hint='write {"type": "keyword"}')
        if not key:
            raise MappingError(f"{where} holds a field without a name")
        yield key, spec


def _unknown_type(name: str, kind: object) -> MappingError:
    if not isinstance(kind, str):
        return MappingError(f"{name} has no type")
    from difflib import get_close_matches

    near = get_close_matches(kind, sorted({*_TYPES, *_FOREIGN, "object", "alias"}), n=1)
    hint = f"did you mean {near[0]}?" if near else "write keyword, text, long, date, ip, …"
    return MappingError(f"{name} is of type {kind}, which is none", hint=hint)


def _is_open(dynamic: object, inherited: bool) -> bool:
    if dynamic is None:
        return inherited
    return dynamic in (True, "true", "runtime")


def _is_unsearchable(kind: FieldType | None, spec: dict[str, Any]) -> bool:
    """Neither indexed nor in a column: Elasticsearch refuses to search it."""
    if spec.get("index") not in (False, "false"):
        return False
    return kind is FieldType.TEXT or spec.get("doc_values") in (False, "false")


def _null_value(name: str, spec: dict[str, Any]) -> Scalar | None:
    value = spec.get("null_value")
    if value is not None and not isinstance(value, str | int | float | bool):
        raise MappingError(f"the null_value of {name} is no single value")
    return value


def _constant(spec: dict[str, Any]) -> Scalar | None:
    value = spec.get("value")
    return value if isinstance(value, str | int | float | bool) else None


def _limit(name: str, spec: dict[str, Any]) -> int | None:
    value = spec.get("ignore_above")
    try:
        limit = None if value is None else int(value)
    except (TypeError, ValueError):
        limit = -1
    if limit is not None and limit < 0:
        raise MappingError(f"the ignore_above of {name} is no number of characters")
    return limit


def _counts_seconds(spec: dict[str, Any]) -> bool:
    formats = str(spec.get("format", "")).split("||")
    return "epoch_second" in formats and "epoch_millis" not in formats


def _some(fields: list[str]) -> str:
    shown = fields[:3]
    more = f" and {len(fields) - len(shown)} more" if len(fields) > len(shown) else ""
    return ", ".join(shown) + more

"""Who did what to which object, in words, read from the document of an alert."""

from __future__ import annotations

from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs, urlsplit

from barrelman.records.event import JsonObject
from barrelman.records.fields import AUDIT
from barrelman.records.paths import Path

_WHO: Final = (Path(f"{AUDIT}.user.username"), Path("user.name"))
_AS: Final = Path(f"{AUDIT}.impersonatedUser.username")
_VERB: Final = (Path(f"{AUDIT}.verb"), Path("event.action"))
_RESOURCE: Final = (Path(f"{AUDIT}.objectRef.resource"), Path("orchestrator.resource.type"))
_SUBRESOURCE: Final = Path(f"{AUDIT}.objectRef.subresource")
_NAMESPACE: Final = (Path(f"{AUDIT}.objectRef.namespace"), Path("orchestrator.namespace"))
# A created object's name may be left to the API server: the answer has it, or half the request.
_NAME: Final = (
    Path(f"{AUDIT}.objectRef.name"),
    Path("orchestrator.resource.name"),
    Path(f"{AUDIT}.responseObject.metadata.name"),
)
_GENERATED: Final = Path(f"{AUDIT}.requestObject.metadata.generateName")
_URI: Final = (Path(f"{AUDIT}.requestURI"),)
_CODE: Final = Path(f"{AUDIT}.responseStatus.code")
_SOURCE: Final = (Path(f"{AUDIT}.sourceIPs"), Path("source.ip"))
_IS_AUDIT: Final = Path(f"{AUDIT}.verb")
_REFUSED: Final = 400
_MOST_CHARS: Final = 300
# Of an oversized value no more is looked at than could be shown, were each of its characters.
_MOST_LOOKED_AT: Final = 8 * _MOST_CHARS

# What was done, as it is said after "tried to" and as it is said when it was done.
_VERBS: Final = {
    "create": ("create", "created"),
    "get": ("read", "read"),
    "list": ("list", "listed"),
    "watch": ("watch", "watched"),
    "update": ("update", "updated"),
    "patch": ("change", "changed"),
    "delete": ("delete", "deleted"),
    "deletecollection": ("delete all", "deleted all"),
    "impersonate": ("impersonate", "impersonated"),
    "bind": ("bind", "bound"),
    "escalate": ("escalate", "escalated"),
    "approve": ("approve", "approved"),
    "sign": ("sign", "signed"),
    "connect": ("connect to", "connected to"),
    "proxy": ("connect to", "connected to"),
    "post": ("post to", "posted to"),
    "put": ("put to", "put to"),
    "head": ("ask for", "asked for"),
    "options": ("ask for", "asked for"),
}
_SUBRESOURCES: Final = {
    "exec": ("run a command in", "ran a command in"),
    "attach": ("attach to", "attached to"),
    "portforward": ("forward a port of", "forwarded a port of"),
    "proxy": ("reach through a proxy", "reached through a proxy"),
    "token": ("get a token for", "got a token for"),
    "eviction": ("evict", "evicted"),
    "binding": ("bind", "bound"),
    "ephemeralcontainers": ("put a debug container into", "put a debug container into"),
    "log": ("read the log of", "read the log of"),
    "approval": ("decide on", "decided on"),
    "scale": ("scale", "scaled"),
}
# Reading these subresources, or changing them, is no more than it says.
_ONLY_ON_CHANGE: Final = frozenset({"ephemeralcontainers", "approval", "scale", "token"})
_READING: Final = frozenset({"get", "list", "watch"})


class Deed(NamedTuple):
    """What an event tells, each part "" where it does not."""

    who: str
    action: str
    object: str
    what: str
    source: str


def deed_of(document: JsonObject) -> Deed:
    """Reads an audit event, or an Elastic document of one; every text is one harmless line."""
    who, source = _who(document), one_line(_join(document, _SOURCE))
    verb, resource = _first(document, _VERB), _first(document, _RESOURCE)
    if not verb or not (resource or _IS_AUDIT.values(document)):
        return Deed(who, "", "", "", source)
    subresource = _first(document, (_SUBRESOURCE,))
    codes = [code for code in _CODE.values(document) if isinstance(code, int)]
    refused = codes[0] if codes and codes[0] >= _REFUSED else 0
    phrase = _phrase(verb, subresource, is_refused=bool(refused))
    ending = f", refused with {refused}" if refused else ""
    if not resource:
        uri = one_line(urlsplit_path(_first(document, _URI)))
        return Deed(who, one_line(phrase), uri, one_line(f"{phrase} {uri}{ending}"), source)
    namespace, name = _first(document, _NAMESPACE), _name(document)
    action = f"{phrase} {resource}"
    target = "/".join(part for part in (namespace, name) if part)
    shown = "/".join(part for part in (resource, namespace, name) if part)
    command = _command(document) if subresource == "exec" else ""
    what = f"{action} {target}".rstrip() + ending + (f": {command}" if command else "")
    return Deed(who, one_line(action), one_line(shown), one_line(what), source)


def crowd_of(document: JsonObject) -> str:
    """What an alert tells that is about several events: `7 events of user.name eve`.

    "" of one that is about a single event.
    """
    alert = "kibana.alert."
    result = document.get(f"{alert}threshold_result")
    if isinstance(result, dict):
        told = [f"{result.get('count', '?')} events"]
        if terms := _pairs(result.get("terms")):
            told.append(f"of {terms}")
        told += (
            f"with {each.get('value', '?')} different {each.get('field', '?')}"
            for each in _objects(result.get("cardinality"))
        )
        return one_line(" ".join(told))
    group = document.get(f"{alert}group.id")
    if group is None or group != document.get(f"{alert}uuid"):
        return ""
    rule = document.get(f"{alert}rule.uuid")
    parents = _objects(document.get(f"{alert}ancestors"))
    number = sum(each.get("type") == "signal" and each.get("rule") == rule for each in parents)
    who = _who(document)
    return f"a sequence of {number} events" + (f" by {who}" if who else "")


def also_of(document: JsonObject) -> str:
    """What is to be said beside what happened: what was new, and how often it happened again."""
    told = []
    new = document.get("kibana.alert.new_terms")
    if isinstance(new, list) and new:
        told.append(f"new is {', '.join(str(each) for each in new)}")
    again = document.get("kibana.alert.suppression.docs_count")
    if isinstance(again, int) and again > 0:
        told.append(f"and {again} more like it")
    return one_line(f" ({'; '.join(told)})") if told else ""


def _pairs(terms: object) -> str:
    return ", ".join(f"{each.get('field')} {each.get('value')}" for each in _objects(terms))


def _objects(items: object) -> list[JsonObject]:
    return [each for each in items if type(each) is dict] if isinstance(items, list) else []


def one_line(text: str, most: int = _MOST_CHARS) -> str:
    """The text as one line of at most so many characters that steer no terminal and no reader.

    Line feeds, other controls and marks that turn the direction of writing are spelled out.
    """
    cut = text[: min(most, _MOST_LOOKED_AT) + 1]
    if not cut.isprintable():
        cut = "".join(char if char.isprintable() else repr(char)[1:-1] for char in cut)
    return cut if len(cut) <= most else f"{cut[: most - 1]}…"


def urlsplit_path(uri: str) -> str:
    """The path of a request: its query may be long, and says little to a person."""
    return uri.partition("?")[0]


def _who(document: JsonObject) -> str:
    who, impersonated = _first(document, _WHO), _first(document, (_AS,))
    return one_line(f"{who} as {impersonated}" if impersonated else who)


def _phrase(verb: str, subresource: str, *, is_refused: bool) -> str:
    words = _VERBS.get(verb)
    if subresource:
        known = _SUBRESOURCES.get(subresource)
        if known and not (verb in _READING and subresource in _ONLY_ON_CHANGE):
            words = known
        elif words:
            words = (f"{words[0]} the {subresource} of", f"{words[1]} the {subresource} of")
    if words is None:
        words = (f'do "{verb}" with', f'did "{verb}" with')
    return f"tried to {words[0]}" if is_refused else words[1]


def _name(document: JsonObject) -> str:
    name = _first(document, _NAME)
    if name:
        return name
    generated = _first(document, (_GENERATED,))
    return f"{generated}…" if generated else ""


def _command(document: JsonObject) -> str:
    """The command line of an exec request, which stands in its URI word by word."""
    uri = _first(document, _URI)[:_MOST_LOOKED_AT]
    try:
        words = parse_qs(urlsplit(uri).query, max_num_fields=1000).get("command", [])
    except ValueError:
        return ""
    return one_line(" ".join(words), 160)


def _first(document: JsonObject, paths: tuple[Path, ...]) -> str:
    return next((str(value) for value in _values(document, paths) if value != ""), "")


def _join(document: JsonObject, paths: tuple[Path, ...]) -> str:
    for path in paths:
        values = [str(value) for value in path.values(document)[:20] if value != ""]
        if values:
            return ", ".join(values)
    return ""


def _values(document: JsonObject, paths: tuple[Path, ...]) -> list[Any]:
    return [value for path in paths for value in path.values(document)]

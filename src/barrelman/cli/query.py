"""`barrelman query`: its options and its help."""

from __future__ import annotations

from typing import Any, Final

import click

LANGUAGES: Final = ("kql", "lucene", "eql", "esql")
FORMATS: Final = ("jsonl", "json", "table", "csv")

_EPILOG = """
\b
Examples:
  barrelman query 'user.name: kim and event.action: delete' audit.log
  barrelman query 'kubernetes.audit.objectRef.resource: secrets' logs/ --format table
  zcat app.json.gz | barrelman query --language lucene 'level:error AND took:>500'
  barrelman query --language eql 'sequence by user.name with maxspan=1m
    [any where kubernetes.audit.verb == "create"]
    [any where kubernetes.audit.verb == "delete"]' audit.log
  barrelman query --mapping mapping.json 'process.name: ssh*' events.jsonl
  barrelman query --index a=a.jsonl --index b=b/ --mapping a=a.json 'host: h1'

\b
Exit codes: 0 nothing found, 1 something found, 2 something went wrong
(unreadable input, an invalid query or mapping, bad usage), 130 interrupted.
"""


@click.command(epilog=_EPILOG)
@click.argument("query")
@click.argument("paths", nargs=-1, metavar="[PATH]…")
@click.option(
    "--language",
    type=click.Choice(LANGUAGES),
    default="kql",
    show_default=True,
    help="What QUERY is written in; esql does not run yet.",
)
@click.option(
    "--index",
    multiple=True,
    metavar="NAME=PATH",
    help="More input, as an index that may have a mapping of its own. Repeatable.",
)
@click.option(
    "--mapping",
    multiple=True,
    metavar="[NAME=]FILE",
    help="An Elasticsearch mapping (JSON), which says what fields there are and of which type; "
    "with NAME for that index alone. Repeatable.",
)
@click.option(
    "--event-category-field",
    metavar="F",
    help="Of EQL: the field of an event's category. Default: event.category.",
)
@click.option(
    "--timestamp-field",
    metavar="F",
    help="Of EQL: the field that orders events. Default: @timestamp.",
)
@click.option(
    "--tiebreaker-field",
    metavar="F",
    help="Of EQL: the field that orders events of one time; else the order of the input does.",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(FORMATS),
    help="Default: table on a terminal, jsonl elsewhere: the documents as they came.",
)
def query(**given: Any) -> int:
    """Searches audit events, or any JSON documents, with a query.

    Each PATH is a file, a folder, a glob or - for standard input, plain or compressed; without
    one, standard input is read. Audit events are told by their content and have the field names
    of rules (kubernetes.audit.*, user.name); any other JSON object is a document, whose fields
    are typed by their values unless a mapping types them.

    KQL, Lucene and EQL event queries print the documents that match, as they came. A sequence or
    a sample of EQL prints an object for each: its join keys and its events.
    """
    from barrelman.cli.querying import run_query  # what only a query needs is loaded here

    return run_query(given)

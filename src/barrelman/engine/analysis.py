"""The words of a `text` field: Elasticsearch's standard analyzer, for fields mapped so.

Words break as Unicode Annex 29 says, in the parts that occur in audit logs: letters and digits
hold together, `.` `'` and `:` between letters and `.` `,` `;` between digits do not break, `_`
never does. Ideographs and kana, one word each, break everywhere. Words are lower-cased.
"""

from __future__ import annotations

import re
from functools import cache

_LETTER = r"[^\W\d_]"
_ALONE = r"[\u3041-\u309f\u4e00-\u9fff\u3400-\u4dbf\uf900-\ufaff]"
_CONNECTORS = re.compile(r"_+")


@cache
def _word() -> re.Pattern[str]:
    """Compiling it takes 3 ms, and few rules ask for a `text` field."""
    return re.compile(
        rf"{_ALONE}|"
        rf"(?:(?!{_ALONE})\w"
        rf"(?:(?<={_LETTER})[:.\u00b7'\u2019\u2018\u2027](?={_LETTER})"
        rf"|(?<=\d)[.,;'\u2018\u2019](?=\d))?)+"
    )


def words(text: str) -> list[str]:
    """The tokens of a text, in order, lower-case; a run of `_` alone is none."""
    return [word.lower() for word in _word().findall(text) if not _CONNECTORS.fullmatch(word)]

"""Names of fields, parameters and members as whatever reads them might take them: pure.

The container's reader is unknown. FastAPI takes a name as it is written; others don't:
- PHP drops leading blanks, ends a name at NUL, writes `_` for `.`, a blank and a `[` that nothing closes;
- PHP, Rails and qs take `name[]` and `name[0]` for `name`, qs `[name]`, too, Rails a `[` that nothing closes, too;
- ASP.NET and Go ignore case; some trim blanks, decode `+` once more, or write `_` for what is no text.
So names that a decision depends on are compared when folded: two are the same if any reader may take them so.
"""

import re
from collections.abc import Iterable
from typing import Final

_CONTROLS: Final = (*range(0x21), *range(0x7F, 0xA1))
_EDGE: Final = re.compile(r"[\s\x00-\x20\x7f-\xa0+\[\]\ufeff]*")
_UNDERSCORE: Final = dict.fromkeys((*_CONTROLS, ord("."), ord("+"), 0xFFFD), "_")
_HALF: Final = 64  # no name that is judged is longer; a character that is not ASCII costs up to 0.3 microseconds


def readings(name: str) -> tuple[str, ...]:
    """The names for which this one might be taken: two if it has a `[` that nothing closes, else one."""
    head, bracket, rest = name[_edge(name) :].partition("\0")[0].partition("[")
    if bracket and rest and "]" not in rest:
        return _plain(head), _plain(f"{head}_{rest}")
    return (_plain(head),)


def folded(name: str) -> str:
    """The name for which most that fold names might take this one."""
    return readings(name)[0]


def taken_for(wanted: str, names: Iterable[str]) -> list[str]:
    """Those of the names that might be taken for `wanted`."""
    same = folded(wanted)
    return [name for name in names if same in readings(name)]


def _plain(head: str) -> str:
    """Without edges, in one spelling. Of a long name that is not ASCII both ends are enough, also for patterns."""
    if len(head) > 2 * _HALF and not head.isascii():
        head = head[:_HALF] + head[-_HALF:]
    return head[: len(head) - _edge(head[::-1])].translate(_UNDERSCORE).casefold()


def _edge(name: str) -> int:
    """How many characters at the start some reader drops."""
    match = _EDGE.match(name)
    return match.end() if match else 0

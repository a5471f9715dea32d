"""Names in messages: the similar ones of one that does not exist, and the first ones of many; in one short line."""
import difflib
import re
from collections.abc import Iterable, Sequence

# Minimum similarity of two names, by difflib's ratio.
ALIKE = 0.7
# Maximum number of names that are suggested.
MOST = 3
# If no name is close, all names are listed, unless the list has more characters than this.
LONGEST = 160


def close(name: str, names: Iterable[str]) -> list[str]:
    """The names that resemble `name` without regard to case, the closest first. A name of the form FOLDER/REST or
    SECTION.REST is also compared by REST only."""
    keys: dict[str, str] = {}
    for candidate in names:
        for key in (candidate, re.split("[/.]", candidate)[-1]):
            keys.setdefault(key.lower(), candidate)
    near = difflib.get_close_matches(name.lower(), keys, 2 * MOST, ALIKE)
    return list(dict.fromkeys(keys[key] for key in near))[:MOST]


def first(names: Sequence[str], most: int) -> str:
    """The names as text; of more than `most`, the first ones and "..."."""
    return ", ".join([*names[:most], *["..."] * (len(names) > most)])


def unknown(kind: str, name: str, names: Iterable[str], elsewhere: str = "") -> str:
    """The message for a name that is not among `names`. kind: what is named, such as "experiment"; elsewhere: a
    sentence that says where all names are listed, for lists that are too long to print."""
    names = list(names)
    near = close(name, names)
    listed = ", ".join(names)
    if near:
        *others, last = near
        rest = f"; did you mean {', '.join(others)} or {last}?" if others else f"; did you mean {last}?"
    elif len(listed) <= LONGEST:
        rest = f"; expected one of {listed}"
    else:
        rest = f"; {elsewhere}" if elsewhere else ""
    return f"there is no {kind} {name!r}{rest}"

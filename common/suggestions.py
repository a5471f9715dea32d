"""What is said about a name that does not exist: the names close to it, in one short line."""
import difflib
import re
from collections.abc import Iterable

# How much a name must resemble another one, as difflib's ratio has it.
ALIKE = 0.7
# How many close names are suggested.
MOST = 3
# Longest list of names that is printed in full, in characters, where no name is close.
LONGEST = 160


def close(name: str, names: Iterable[str]) -> list[str]:
    """The names that resemble `name`, the closest first, whatever their case. A name of the form FOLDER/REST or
    SECTION.REST is also compared by REST alone."""
    keys: dict[str, str] = {}
    for candidate in names:
        for key in (candidate, re.split("[/.]", candidate)[-1]):
            keys.setdefault(key.lower(), candidate)
    near = difflib.get_close_matches(name.lower(), keys, 2 * MOST, ALIKE)
    return list(dict.fromkeys(keys[key] for key in near))[:MOST]


def unknown(kind: str, name: str, names: Iterable[str], elsewhere: str = "") -> str:
    """The message for a name that is not among `names`. kind: what the name stands for, such as "experiment";
    elsewhere: where all names are listed, for lists that are too long to print."""
    names = list(names)
    near = close(name, names)
    listed = ", ".join(names)
    if near:
        rest = "; did you mean {}?".format(" or ".join(filter(None, [", ".join(near[:-1]), near[-1]])))
    elif len(listed) <= LONGEST:
        rest = f"; expected one of {listed}"
    else:
        rest = f"; {elsewhere}" if elsewhere else ""
    return f"there is no {kind} {name!r}{rest}"

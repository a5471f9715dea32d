"""Names of facial expressions: their order as class labels, and the spellings that data sets use."""
from typing import Optional

# The six basic expressions of Ekman, then neutral, in FER2013's order. The project uses it for all other data too.
SEVEN = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
SIX = SEVEN[:6]
SIX_AND_CONTEMPT = SIX + ("contempt",)
# Other spellings that data sets use -> the project's name.
SYNONYMS = {"anger": "angry", "happiness": "happy", "sadness": "sad", "surprised": "surprise"}


def canonical(name: str) -> str:
    """The project's name of an expression: "Anger" -> "angry". An unknown name is only changed to lower case."""
    name = name.lower()
    return SYNONYMS.get(name, name)


def label(name: str) -> Optional[int]:
    """The index in SEVEN of an expression in any known spelling; None for any other name."""
    name = canonical(name)
    return SEVEN.index(name) if name in SEVEN else None

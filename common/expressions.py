"""Names of facial expressions: their order as class labels, and the spellings that data sets use."""
from typing import Optional

# The six basic expressions of Ekman, then neutral: FER2013's own order, which the project uses wherever it may choose.
SEVEN = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
SIX = SEVEN[:6]
SIX_AND_CONTEMPT = SIX + ("contempt",)
# Other spellings in circulation -> the project's name.
SYNONYMS = {"anger": "angry", "happiness": "happy", "sadness": "sad", "surprised": "surprise"}


def canonical(name: str) -> str:
    """The project's name of an expression: "Anger" -> "angry". An unknown name is only put in lower case."""
    name = name.lower()
    return SYNONYMS.get(name, name)


def label(name: str) -> Optional[int]:
    """The index in SEVEN of an expression in any known spelling; None for any other name."""
    name = canonical(name)
    return SEVEN.index(name) if name in SEVEN else None

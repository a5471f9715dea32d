"""The settings of [wu2023], Sections 3.3 and 4.2."""
from typing import Literal, Optional

from common.settings import NonNegative, Pacing, Section, setting
from common.settings import Settings as Base


class Head(Section):
    subtracted: Literal["none", "reference", "backbone"] = setting(
        "What is subtracted from the features of a face: nothing, the features of a neutral reference, Eq. (3), or "
        "those of a second backbone, Eq. (8).")
    noise: NonNegative = setting("Standard deviation of the noise that is added to training images, in grey values.")


class Settings(Base):
    losses: Section = setting("Empty: softmax is the only loss.")
    head: Head = setting("Layers after the backbone.")
    pacing: Optional[Pacing] = setting("Self-paced learning, Section 3.3.", optional=True, own=True)

"""The settings of [wu2023], Sections 3.3 and 4.2."""
from typing import Literal, Optional

from common.settings import NonNegative, Pacing, Section, setting
from common.settings import Settings as Base


class Head(Section):
    subtracted: Literal["none", "reference", "backbone"] = setting(
        "What is subtracted from a face's features: those of a neutral reference, Eq. (3), or of a second backbone, "
        "Eq. (8).")
    noise: NonNegative = setting("Standard deviation of the noise on training images, in grey values.")


class Settings(Base):
    losses: Section = setting("None: the softmax loss is alone.")
    head: Head = setting("What follows the backbone.")
    pacing: Optional[Pacing] = setting("Self-paced learning, 3.3.", optional=True, own=True)

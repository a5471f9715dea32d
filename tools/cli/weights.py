"""`./fer weights`: lists, gets, checks and converts pretrained weights."""
import argparse

from tools.cli.arguments import Commands, path


def add(commands: Commands) -> None:
    command = commands.add(
        "weights", list_all, "List the pretrained weights that the nets can begin with, or get, check or convert some.",
        "weights", "weights get dlib_face", "weights check models/face_model.caffemodel",
        "weights convert resnet18-f37072fd.pth --to resnet18 --out models/resnet18.caffemodel")
    actions = Commands(command, required=False)
    getting = actions.add("get", get, "Put weights into models/: download a file, or make a run that comes with the "
                          "project, for predict and evaluate. Most files have no address from which a program may "
                          "take them.", "weights get dlib_face", "weights get fer2013_dlib_softmax")
    getting.add_argument("name", metavar="NAME", help="A name of the list.")
    checking = actions.add("check", check, "Check that a file is whole, and that it has the layers and shapes that its "
                           "net needs.", "weights check models/face_model.caffemodel",
                           "weights check resnet18_msceleb.pth --net resnet18_raf")
    checking.add_argument("file", type=path, metavar="FILE", help="A caffemodel, .pth, .pt or .safetensors.")
    checking.add_argument("--net", help="The net (default: that of the file's name in the list).")
    converting = actions.add(
        "convert", convert, "Convert weights between PyTorch and Caffe.",
        "weights convert resnet18-f37072fd.pth --to resnet18 --out models/resnet18.caffemodel",
        "weights convert models/resnet18.caffemodel --to torchvision --out resnet18.safetensors")
    converting.add_argument("file", type=path, metavar="FILE", help="A caffemodel, .pth, .pt or .safetensors.")
    converting.add_argument("--to", required=True, metavar="NET", help="The net whose caffemodel is written, or "
                            "torchvision, to write a .safetensors file with torchvision's names.")
    converting.add_argument("--out", type=path, required=True, metavar="FILE", help="The file to write.")


def list_all(options: argparse.Namespace) -> int:
    from tools.weights import catalogue
    for entry in catalogue.ENTRIES:
        how = f"./fer weights get {entry.name}" if entry.fetch else f"from {entry.source}"
        print(f"{entry.name}: models/{entry.file}, {catalogue.state(entry)}", f"  {entry.purpose}", f"  {how}",
              f"  licence: {entry.licence}", f"  SHA-256: {entry.digest or 'none was published'}", sep="\n")
    return 0


def get(options: argparse.Namespace) -> int:
    from tools.weights import catalogue
    for written in catalogue.get(options.name):
        print(written)
    return 0


def check(options: argparse.Namespace) -> int:
    from common import progress
    from tools.weights import checking
    with progress.doing(f"reading {options.file}"):
        found = checking.check(options.file, options.net)
    print(found)
    return 0


def convert(options: argparse.Namespace) -> int:
    from common import progress
    from tools.weights import conversion
    with progress.doing(f"converting {options.file} and proving it by the features of images"):
        if options.to == conversion.TORCHVISION:
            made = conversion.to_torchvision(options.file, options.out)
        else:
            made = conversion.to_caffe(options.file, options.to, options.out)
    print(made)
    print(options.out)
    return 0

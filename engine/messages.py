"""Caffe's messages without pycaffe: built from messages.txt, which lists the fields by name, number and type.

`messages.NetParameter` and so on are the message classes, and `messages.TRAIN`, `messages.TEST` the phases.
"""
import os
import re
from typing import Any, Dict

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf.message import DecodeError, Message

from common.errors import UserError

_FIELD = descriptor_pb2.FieldDescriptorProto
TRAIN, TEST = 0, 1


def _field(words, enums) -> descriptor_pb2.FieldDescriptorProto:
    """A field from its words: name, number, type with * if repeated, "packed", "= default"."""
    name, number, kind = words[:3]
    field = _FIELD(name=name, number=int(number), label=_FIELD.LABEL_OPTIONAL)
    if kind.endswith("*"):
        kind, field.label = kind[:-1], _FIELD.LABEL_REPEATED
        field.options.packed = "packed" in words
    if hasattr(_FIELD, "TYPE_" + kind.upper()):
        field.type = getattr(_FIELD, "TYPE_" + kind.upper())
    else:
        field.type = _FIELD.TYPE_ENUM if kind in enums else _FIELD.TYPE_MESSAGE
        field.type_name = enums.get(kind, f".caffe.{kind}")
    if "=" in words:
        default = words[words.index("=") + 1]
        field.default_value = "" if default == '""' else default
    return field


def _describe() -> descriptor_pb2.FileDescriptorProto:
    """Reads messages.txt: a line with a message's name, then a line for each of its enumerations and fields."""
    described = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe", syntax="proto2")
    message: Any = None
    outer: Dict[str, str] = {}  # names of enumerations to their full names
    enums: Dict[str, str] = {}  # the same, with those of the message
    with open(os.path.join(os.path.dirname(__file__), "messages.txt"), encoding="ascii") as lines:
        for words in map(str.split, lines):
            if words[0] == "message":
                message, enums = described.message_type.add(name=words[1]), dict(outer)
            elif words[0] == "enum":
                enum = (described if message is None else message).enum_type.add(name=words[1])
                for word in words[2:]:
                    name, _, number = word.partition("=")
                    enum.value.add(name=name, number=int(number))
                scope = "" if message is None else f"{message.name}."
                (outer if message is None else enums)[words[1]] = f".caffe.{scope}{words[1]}"
            else:
                message.field.append(_field(words, enums))
    return described


def _classes() -> Dict[str, Any]:
    described = _describe()
    pool = descriptor_pool.DescriptorPool()
    pool.Add(described)
    descriptors = [pool.FindMessageTypeByName(f"caffe.{message.name}") for message in described.message_type]
    if hasattr(message_factory, "GetMessageClass"):
        return {one.name: message_factory.GetMessageClass(one) for one in descriptors}
    factory = message_factory.MessageFactory(pool)  # protobuf before 4.22
    return {one.name: factory.GetPrototype(one) for one in descriptors}


_CLASSES = _classes()
globals().update(_CLASSES)


def __getattr__(name):
    raise AttributeError(f"Caffe has no message {name}, or the engine does not read it")


def read_text(path: str, kind: str) -> Any:
    """Reads a prototxt.

    Parameters: the file; the name of its message, "NetParameter" or "SolverParameter".
    Raises UserError if the file cannot be read, is not such a message, or is in the old form with `layers { }`.
    """
    try:
        with open(path, encoding="utf-8") as stream:
            text = stream.read()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    message = _CLASSES[kind]()
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        # The fields of old layers are not in messages.txt, so they are what cannot be parsed.
        if not (kind == "NetParameter" and re.search(r"^\s*layers\s*[:{]", text, re.MULTILINE)):
            raise UserError(f"{path}: line {error}, expected a {kind} of Caffe as text") from None
        message.layers.add()
    if kind == "NetParameter" and message.layers:
        raise UserError(f"{path}: `layers {{ }}` is Caffe's old form, expected `layer {{ }}`; "
                        "Caffe's upgrade_net_proto_text converts it")
    return message


def read_binary(path: str, kind: str) -> Any:
    """Reads a caffemodel ("NetParameter") or solverstate ("SolverState"). Raises UserError if it cannot be read or is
    damaged."""
    message = _CLASSES[kind]()
    try:
        with open(path, "rb") as stream:
            message.ParseFromString(stream.read())
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except DecodeError:
        raise UserError(f"{path}: not a {kind} of Caffe, or damaged") from None
    return message


def enum_name(message: Message, field: str) -> str:
    """The name of an enumeration's value, e.g. "MAX" for `enum_name(pooling_param, "pool")`."""
    return message.DESCRIPTOR.fields_by_name[field].enum_type.values_by_number[getattr(message, field)].name

"""Image files: read as OpenCV reads whole ones; those that are cut, too large or no images are refused by name."""
import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from common.errors import UserError
from data_prep import images
from data_prep.images import read_image

SUFFIXES = [".jpg", ".png", ".bmp", ".gif", ".tif", ".webp", ".ppm"]


def face(height=61, width=45):
    """RGB, with edges and a slope: what is missing or turned is seen."""
    image = np.add.outer(np.arange(height) * 3, np.arange(width) * 2)[..., None] + [0, 40, 90]
    image[5:20, 3:9] = 255, 0, 0
    return (image % 256).astype(np.uint8)


def encoded(rgb, form, **settings):
    stream = io.BytesIO()
    (rgb if isinstance(rgb, Image.Image) else Image.fromarray(rgb)).save(stream, form, **settings)
    return stream.getvalue()


def kept(tmp_path, content, name="a.jpg"):
    (tmp_path / name).write_bytes(content)
    return str(tmp_path / name)


JPEGS = {
    "colour": lambda: encoded(face(), "JPEG", quality=80),
    "progressive": lambda: encoded(face(), "JPEG", quality=95, subsampling=0, progressive=True),
    "grey": lambda: encoded(face()[..., 0].copy(), "JPEG"),
    # With a picture of its own in the header, whose end of image is not the file's.
    "thumbnail": lambda: encoded(face(), "JPEG", exif=b"Exif\0\0" + encoded(face(12, 16), "JPEG")),
}


@pytest.mark.parametrize("make", JPEGS.values(), ids=JPEGS)
def test_jpeg_is_refused_wherever_it_is_cut(tmp_path, make):
    whole = make()
    np.testing.assert_array_equal(
        read_image(kept(tmp_path, whole)), cv2.imdecode(np.frombuffer(whole, np.uint8), cv2.IMREAD_COLOR))
    for length in [len(whole) * tenth // 10 for tenth in range(1, 10)] + [len(whole) - 3, len(whole) - 1]:
        path = kept(tmp_path, whole[:length])
        with pytest.raises(UserError) as error:
            read_image(path)
        assert str(error.value).startswith(path + ": not a readable image"), length


@pytest.mark.parametrize("form", ["PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_others_are_refused_where_pixels_are_missing(tmp_path, form):
    whole = encoded(face(), form)
    expected = read_image(kept(tmp_path, whole))
    refused = 0
    for length in [len(whole) * tenth // 10 for tenth in range(1, 10)] + [len(whole) - 2, len(whole) - 1]:
        path = kept(tmp_path, whole[:length])
        try:
            # The last bytes of some formats hold no pixels.
            np.testing.assert_array_equal(read_image(path), expected)
        except UserError as error:
            refused += 1
            assert str(error).startswith(path + ": not a readable image")
    assert refused >= 9


@pytest.mark.parametrize("junk", [b"\0" * 5000, b"junk", encoded(face(9, 9), "JPEG")], ids=["zeros", "text", "image"])
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_bytes_behind_the_end_do_no_harm(tmp_path, form, junk):
    whole = encoded(face(), form)
    expected = read_image(kept(tmp_path, whole))
    np.testing.assert_array_equal(read_image(kept(tmp_path, whole + junk)), expected)
    with pytest.raises(UserError, match="not a readable image"):
        read_image(kept(tmp_path, whole[:len(whole) // 2] + junk))


def test_end_of_data_is_named(tmp_path):
    whole = encoded(face(), "JPEG")
    path = kept(tmp_path, whole[:-20], "ä 'b'.jpg")
    with pytest.raises(UserError) as error:
        read_image(path)
    assert str(error.value) == path + ": not a readable image: the file ends before its image does"


@pytest.mark.parametrize("orientation", range(10))
def test_photographs_are_set_upright(tmp_path, orientation):
    """Values as EXIF 2.3 defines them: which side the first row and the first column are at. Others say nothing."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    whole = encoded(face(), "JPEG", exif=exif.tobytes(), quality=100, subsampling=0)
    stored = cv2.imdecode(np.frombuffer(encoded(face(), "JPEG", quality=100, subsampling=0), np.uint8),
                          cv2.IMREAD_COLOR)
    upright = {2: stored[:, ::-1], 3: stored[::-1, ::-1], 4: stored[::-1], 5: stored.transpose(1, 0, 2),
               6: stored[::-1].transpose(1, 0, 2), 7: stored[::-1, ::-1].transpose(1, 0, 2),
               8: stored[:, ::-1].transpose(1, 0, 2)}.get(orientation, stored)
    np.testing.assert_array_equal(read_image(kept(tmp_path, whole)), upright)


def test_broken_exif_data_say_nothing(tmp_path):
    whole = encoded(face(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    np.testing.assert_array_equal(read_image(kept(tmp_path, whole)),
                                  cv2.imdecode(np.frombuffer(whole, np.uint8), cv2.IMREAD_COLOR))


def alpha(rgb):
    return np.dstack([rgb, np.arange(rgb[..., 0].size).reshape(rgb.shape[:2]).astype(np.uint8)])


@pytest.mark.parametrize("name, make, expected", [
    ("grey", lambda rgb: encoded(rgb[..., 1].copy(), "PNG"), lambda rgb: rgb[..., [1, 1, 1]]),
    ("alpha", lambda rgb: encoded(alpha(rgb), "PNG"), lambda rgb: rgb),
    ("palette", lambda rgb: encoded(Image.fromarray(rgb // 64 * 64).quantize(64), "PNG"), lambda rgb: rgb // 64 * 64),
    ("two values", lambda rgb: encoded(Image.fromarray(rgb[..., 0] > 99), "PNG"),
     lambda rgb: np.repeat((rgb[..., :1] > 99) * 255, 3, axis=2)),
    ("16 bits", lambda rgb: cv2.imencode(".png", rgb[..., ::-1].astype(np.uint16) * 256 + 7)[1].tobytes(),
     lambda rgb: rgb),
    ("16 bits, grey", lambda rgb: cv2.imencode(".png", rgb[..., 0].astype(np.uint16) * 256 + 7)[1].tobytes(),
     lambda rgb: rgb[..., [0, 0, 0]]),
    ("16 bits, TIFF", lambda rgb: cv2.imencode(".tif", rgb[..., 0].astype(np.uint16) * 256 + 7)[1].tobytes(),
     lambda rgb: rgb[..., [0, 0, 0]]),
    ("animation", lambda rgb: encoded(Image.fromarray(rgb // 64 * 64).quantize(64), "GIF", save_all=True,
                                      append_images=[Image.new("L", (45, 61))]), lambda rgb: rgb // 64 * 64),
    ("lossless", lambda rgb: encoded(rgb, "WEBP", lossless=True), lambda rgb: rgb),
    ("TIFF", lambda rgb: encoded(rgb, "TIFF", compression="tiff_lzw"), lambda rgb: rgb),
    ("PPM", lambda rgb: encoded(rgb, "PPM"), lambda rgb: rgb)])
def test_kinds_of_pixels(tmp_path, name, make, expected):
    rgb = face()
    np.testing.assert_array_equal(read_image(kept(tmp_path, make(rgb), "A.JPG")), expected(rgb)[..., ::-1])


def test_print_colours_are_read(tmp_path):
    rgb = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    image = read_image(kept(tmp_path, encoded(Image.fromarray(rgb).convert("CMYK"), "JPEG", quality=100)))
    assert np.abs(image[..., ::-1].astype(int) - rgb).max() <= 3


def png_of_size(width, height):
    """A PNG that says it has that size, in some hundred bytes."""
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b""))


@pytest.mark.parametrize("width, height", [(35000, 35000), (10001, 10000), (2 ** 31 - 1, 2 ** 31 - 1)])
def test_too_many_pixels_are_refused_before_they_are_read(tmp_path, width, height):
    path = kept(tmp_path, png_of_size(width, height), "large.png")
    with pytest.raises(UserError) as error:
        read_image(path)
    assert str(error.value) == f"{path}: {width}x{height} pixels, at most 100 million pixels are read"


@pytest.mark.parametrize("content, said", [
    (b"", "empty file"),
    (b"no image", "not a readable image"),
    (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n%%EndComments\n", "not a readable image"),
    (encoded(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"), "not a readable image: its values are not int")])
def test_no_image(tmp_path, content, said):
    path = kept(tmp_path, content)
    with pytest.raises(UserError) as error:
        read_image(path)
    assert str(error.value).startswith(f"{path}: {said}")


def test_no_file(tmp_path):
    with pytest.raises(UserError, match="gone.jpg: no such file"):
        read_image(str(tmp_path / "gone.jpg"))
    (tmp_path / "b.jpg").mkdir()
    with pytest.raises(UserError, match="b.jpg: not a file"):
        read_image(str(tmp_path / "b.jpg"))


def test_every_format_has_its_suffixes():
    assert set(SUFFIXES) <= set(images.SUFFIXES)
    Image.init()
    for name, suffixes in images.FORMATS.items():
        assert {Image.EXTENSION[suffix] for suffix in suffixes} == {name}

"""Faces that stand in a page's own text."""
import base64

import cv2
import numpy as np

# A smaller face is enlarged by who shows the page.
FACE_PIXELS = 96


def png(image: np.ndarray) -> str:
    """A face, (height, width) or (height, width, 3) BGR; floats are spread over all grey values."""
    return encoded(_shrunk(_bytes(image), FACE_PIXELS))


def jpeg(image: np.ndarray, side: int = FACE_PIXELS, quality: int = 90) -> str:
    """As `png`, smaller, where a page has many. side: of a larger face, after it was shrunk."""
    return uri(cv2.imencode(".jpg", _shrunk(_bytes(image), side), [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes(),
               "image/jpeg")


def encoded(image: np.ndarray) -> str:
    """uint8, as it is."""
    return uri(cv2.imencode(".png", image)[1].tobytes(), "image/png")


def as_picture(image: np.ndarray) -> np.ndarray:
    """(channels, height, width) -> (height, width) of a grey image, else (height, width, 3)."""
    return image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0))


def uri(data: bytes, kind: str) -> str:
    """The content of a file of a media type, such as "image/png", as an address."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _bytes(image: np.ndarray) -> np.ndarray:
    return image if image.dtype == np.uint8 else cv2.normalize(image, None, 0, 255, cv2.NORM_MINMAX, cv2.CV_8U)


def _shrunk(image: np.ndarray, side: int) -> np.ndarray:
    if max(image.shape[:2]) <= side:
        return image
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)

"""Pictures that stand in the page's own text."""
import base64
import io

import cv2
import matplotlib
import numpy as np

# A smaller face is enlarged by who shows the page.
FACE_PIXELS = 96


def png(image: np.ndarray) -> str:
    """A face, (height, width) or (height, width, 3) BGR; floats are spread over all grey values."""
    return encoded(_shrunk(_bytes(image)))


def jpeg(image: np.ndarray) -> str:
    """As `png`, smaller, where a page has many."""
    return _uri(cv2.imencode(".jpg", _shrunk(_bytes(image)), [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes(),
                "image/jpeg")


def encoded(image: np.ndarray) -> str:
    """uint8, as it is."""
    return _uri(cv2.imencode(".png", image)[1].tobytes(), "image/png")


def svg(figure) -> str:
    """A Matplotlib figure."""
    stream = io.BytesIO()
    # Without the date and random ids the same runs give the same page.
    with matplotlib.rc_context({"svg.hashsalt": "caffe-fer"}):
        figure.savefig(stream, format="svg", bbox_inches="tight", metadata={"Date": None})
    return _uri(stream.getvalue(), "image/svg+xml")


def _bytes(image: np.ndarray) -> np.ndarray:
    return image if image.dtype == np.uint8 else cv2.normalize(image, None, 0, 255, cv2.NORM_MINMAX, cv2.CV_8U)


def _shrunk(image: np.ndarray) -> np.ndarray:
    if max(image.shape[:2]) <= FACE_PIXELS:
        return image
    return cv2.resize(image, (FACE_PIXELS, FACE_PIXELS), interpolation=cv2.INTER_AREA)


def _uri(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"

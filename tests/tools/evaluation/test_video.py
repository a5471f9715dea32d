"""Video files: frames and times as they were written, and what is refused."""
import os

import cv2
import numpy as np
import pytest

from common.errors import UserError
from tools.evaluation import video
from tools.evaluation.video import Video


def frame(number, size=(48, 64)):
    return np.full(size + (3,), 20 + 10 * number, np.uint8)


def drawn(path, count=12, rate=12.5, codec="mp4v"):
    """A video by OpenCV alone, frame k of the grey 20 + 10 k."""
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*codec), rate, (64, 48))
    for number in range(count):
        writer.write(frame(number))
    writer.release()
    return str(path)


@pytest.mark.parametrize("name, codec", [("a.mp4", "mp4v"), ("a.avi", "MJPG"), ("a.mkv", "mp4v"), ("a.mov", "avc1"),
                                         ("a.webm", "VP80"), ("b:100%03d.MP4", "mp4v")])
def test_frames_and_times(name, codec, tmp_path):
    film = Video(drawn(tmp_path / name, codec=codec))
    assert (film.rate, film.count) == (12.5, 12)
    frames = list(film.frames(every=5))
    assert [one.number for one in frames] == [0, 5, 10]
    # A frame is shown for 0.08 seconds.
    np.testing.assert_allclose([one.time for one in frames], [0, .4, .8], atol=1e-3)
    for one in frames:
        assert one.image.shape == (48, 64, 3)
        np.testing.assert_allclose(one.image, frame(one.number), atol=6)
    assert film.average == pytest.approx(12.5, abs=.01)


def test_what_is_no_video(tmp_path, capfd):
    (tmp_path / "empty.mp4").write_text("")
    (tmp_path / "text.mp4").write_text("no video" * 99)
    (tmp_path / "folder.mp4").mkdir()
    whole = drawn(tmp_path / "whole.mp4")
    with open(whole, "rb") as stream:
        content = stream.read()
    (tmp_path / "cut.mp4").write_bytes(content[:len(content) // 2])
    for name, said in (("empty", "empty file"), ("text", "not a readable video"), ("folder", "not a file"),
                       ("missing", "no such file"), ("cut", "not a readable video")):
        path = str(tmp_path / (name + ".mp4"))
        with pytest.raises(UserError) as error:
            Video(path)
        assert str(error.value) == f"{path}: {said}"
    assert capfd.readouterr() == ("", "")


def test_a_video_that_is_cut_is_no_whole_one(tmp_path):
    with open(drawn(tmp_path / "whole.avi", 40, codec="MJPG"), "rb") as stream:
        content = stream.read()
    (tmp_path / "cut.avi").write_bytes(content[:len(content) // 2])
    film = Video(str(tmp_path / "cut.avi"))
    assert film.count == 40
    with pytest.raises(UserError, match=r"cut\.avi: ends after [01]\.\d of 3\.2 seconds; the file is cut or damaged"):
        list(film.frames())


@pytest.mark.parametrize("size, read", [((48, 64), (48, 64)), ((49, 65), (48, 64))])
def test_writes_what_it_reads(size, read, tmp_path):
    """Of odd sizes, FFmpeg leaves out a row or a column. A video of ours is replaced."""
    out = str(tmp_path / "new" / "out.mp4")
    for count in (5, 8):
        with video.writing(out, 12.5) as write:
            for number in range(count):
                write(frame(number, size))
        frames = list(Video(out).frames())
        assert [one.number for one in frames] == list(range(count)) and frames[0].image.shape == read + (3,)
        np.testing.assert_allclose(frames[-1].image, frame(count - 1, read), atol=6)
    assert os.listdir(str(tmp_path / "new")) == ["out.mp4"]


def test_nothing_is_half_written(tmp_path):
    out = str(tmp_path / "out.mp4")
    with pytest.raises(ZeroDivisionError), video.writing(out, 25) as write:
        write(frame(0))
        raise ZeroDivisionError
    # Nor is a video without frames, or one of which the disk has taken a part only.
    with pytest.raises(UserError, match="out.mp4: not written"), video.writing(out, 25):
        pass
    with pytest.raises(UserError, match="out.mp4: not written"), video.writing(out, 25) as write:
        write(frame(0))
        write(frame(1, (96, 128)))  # a frame of another size is not written
    assert os.listdir(str(tmp_path)) == []


def test_the_users_video_stays(tmp_path):
    mine = drawn(tmp_path / "mine.mp4")
    before = os.stat(mine)
    for path, said in ((mine, "was not made by caffe-fer"), (str(tmp_path / "x.avi"), "which ends in .mp4")):
        with pytest.raises(UserError, match=said), video.writing(path, 25) as write:
            write(frame(0))
    assert os.stat(mine) == before and os.listdir(str(tmp_path)) == ["mine.mp4"]


def test_a_name_that_is_no_text_is_refused(tmp_path):
    """OpenCV crashes at one."""
    path = os.path.join(str(tmp_path), os.fsdecode(b"k\xe9.mp4"))
    with open(path, "wb") as stream:
        stream.write(b"no video")
    for use in (video.Video, video.require_writable):
        with pytest.raises(UserError, match="is no text in UTF-8, which OpenCV"):
            use(path)

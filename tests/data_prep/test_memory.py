"""The whole preparation streams: its memory does not grow with the number of images."""
import pytest

from bench import memory


@pytest.mark.slow
def test_three_times_the_images_take_no_more_memory(tmp_path):
    peaks = []
    for count in (700, 2100):
        folder = tmp_path / str(count)
        folder.mkdir()
        peaks.append(memory.of_preparation(str(folder), count))
    # The records of an image have half a megabyte: kept by mistake, those of 1400 images more would be 700 MB. The rest
    # is noise of the moments at which the memory is measured.
    assert peaks[1] < 1.3 * peaks[0] and peaks[1] < 1 << 30, peaks

"""What `./fer prepare` prints at its end."""
import os

from common import files
from data_prep import prepared_folder


def note(class_counts, records, classes=("no", "yes"), folds=()):
    return {"classes": list(classes), "class_counts": class_counts, "folds": list(folds), "records": records,
            "counts": {split: sum(counts) for split, counts in class_counts.items()}, "shape": [1, 48, 48],
            "features": [], "published_counts": {}, "no_face": 0, "copies": 0, "asked": {}, "manifest": ""}


def test_of_folds_the_records_and_folders_are_listed(tmp_path):
    """Two of three folds are made, with ten crops of each test image."""
    parts = {"fold01": note({"train": [5, 1000], "val": [1, 1], "test": [2, 0]},
                            {"train": 1005, "val": 20, "test": 20}),
             "fold03": note({"train": [6, 1], "test": [1, 1000]}, {"train": 7, "test": 10010})}
    for name, part in parts.items():
        files.write_json(os.path.join(str(tmp_path), name, "prepare.json"), part)
    whole = note({"fold01": [2, 0], "fold02": [1, 1], "fold03": [1, 1000]}, {}, folds=parts)
    first, *lines = prepared_folder.summary(str(tmp_path), whole).splitlines()
    assert first == f"{tmp_path}: 1005 images in 3 folds, 11062 records of 1x48x48, features: none"
    assert [line.split() for line in lines[:4]] == [
        ["no", "yes", "all"], ["fold01", "2", "0", "2"], ["fold02", "1", "1", "2"], ["fold03", "1", "1000", "1001"]]
    assert lines[4] == "made, each with its fold as the test split (images of each split, and all records):"
    assert [line.split() for line in lines[5:]] == [
        ["train", "val", "test", "records"], ["fold01", "1005", "2", "2", "1045"],
        ["fold03", "7", "0", "1001", "10017"]]


def test_classes_that_do_not_fit_side_by_side_are_below_each_other():
    classes = [f"expression {number}" for number in range(8)]
    counts = {"train": [10 + number for number in range(8)], "test": [10] * 8}
    lines = prepared_folder.summary("out", note(counts, {"train": 108, "test": 80}, classes)).splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["train", "test"], *(["expression", str(number), str(10 + number), "10"] for number in range(8)),
        ["all", "108", "80"]]
    lines = prepared_folder.summary("out", note({"train": [1] * 7}, {"train": 7}, "abcdefg")).splitlines()
    assert lines[1].split() == [*"abcdefg", "all"] and lines[2].split() == ["train", *"1111111", "7"]

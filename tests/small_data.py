"""Small prepared data for tests: FER2013's own CSV format, filled with noise that carries the label."""
import csv

import numpy as np

from data_prep import prepare

USAGES = ("Training", "PublicTest", "PrivateTest")


def rows(counts=(24, 12, 12), seed=0):
    """Rows of the CSV; the label moves a bright bar, so that there is something to learn."""
    random = np.random.RandomState(seed)
    for usage, count in zip(USAGES, counts):
        for number in range(count):
            label = number % 7
            pixels = random.randint(0, 120, (48, 48))
            pixels[6 * label:6 * label + 6] += 100
            yield [str(label), " ".join(map(str, pixels.ravel())), usage]


def write_csv(path, table):
    with open(str(path), "w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows([["emotion", "pixels", "Usage"]] + list(table))
    return str(path)


def prepared(folder, features=("gabor",), counts=(24, 12, 12), seed=0):
    """Path of a prepared folder."""
    source = write_csv(folder / "fer2013.csv", rows(counts))
    out = str(folder / "prepared")
    prepare.prepare(prepare.Settings("fer2013", source, features=list(features), seed=seed), out, processes=1)
    return out


def with_subjects(folder, counts=(56, 14, 14), seed=0, subjects=4):
    """Path of a folder prepared for [liu2017], whose subjects come from a table: each shows each expression."""
    table = list(rows(counts))
    source = write_csv(folder / "fer2013.csv", table)
    lines, seen = [], {usage: 0 for usage in USAGES}
    for line, (_, _, usage) in enumerate(table, start=2):
        lines.append(f"fer2013.csv:{line},{usage}{seen[usage] // 7 % subjects}\n")
        seen[usage] += 1
    (folder / "subjects.csv").write_text("path,subject\n" + "".join(lines))
    out = str(folder / "prepared")
    prepare.prepare(prepare.Settings("fer2013", source, "liu2017", features=(), seed=seed,
                                     subjects=str(folder / "subjects.csv")), out, processes=1)
    return out

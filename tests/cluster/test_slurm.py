"""The Snakefile under its Slurm profile, a stand-in for `sbatch` on the PATH: each job a `./fer` call.

Inside the environment with its Snakemake, which reads config.yaml; `.ci/run` runs it on the host too, with a Snakemake
of today, which reads config.v8+.yaml.
"""
import csv
import json
import os
import random
import re
import shutil
import stat
import subprocess

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FER = os.path.join(ROOT, "fer")
# Notes how it was called, does the job at once, and says its number as the real one does.
SBATCH = """#!/bin/sh
echo "$@" >> "$CALLS"
for last; do :; done
sh "$last" > "$last.log" 2>&1 || cp "$last.log" "$CALLS.failed"
echo "Submitted batch job 1"
"""


def fer(*arguments):
    return subprocess.run([FER, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True,
                          check=True).stdout


@pytest.fixture
def data(tmp_path):
    """Path of FER2013's CSV, prepared: noise, some images a part."""
    noise = random.Random(0)
    with open(str(tmp_path / "fer2013.csv"), "w", newline="") as stream:
        out = csv.writer(stream)
        out.writerow(["emotion", "pixels", "Usage"])
        for usage, count in (("Training", 21), ("PublicTest", 14), ("PrivateTest", 14)):
            for number in range(count):
                out.writerow([number % 7, " ".join(str(noise.randrange(256)) for _ in range(48 * 48)), usage])
    fer("prepare", "fer2013", str(tmp_path / "fer2013.csv"), "--features", "--out", str(tmp_path / "data"))
    return str(tmp_path / "data")


@pytest.mark.slow
def test_jobs_go_through_sbatch(tmp_path, data):
    bin_, out = tmp_path / "bin", tmp_path / "out"
    bin_.mkdir()
    (bin_ / "sbatch").write_text(SBATCH)
    (bin_ / "sbatch").chmod(stat.S_IRWXU)
    asked = ["xie2019b-table4", "--data", "fer2013-xie2019a=" + data, "--set", "net=toy", "--set",
             "solver.batch_size=7", "--set", "solver.max_iter=4", "--out", str(out)]
    plan = fer("reproduce", *asked, "--plan").strip()
    with open(plan) as stream:
        jobs = json.load(stream)
    assert [os.path.basename(job["command"][0]) for job in jobs] == ["fer"] * 4
    jobs[0]["gpu"] = 2  # as with --gpu 0,1, for which there are no cards here
    with open(plan, "w") as stream:
        json.dump(jobs, stream)
    environment = dict(os.environ, PATH="{}{}{}".format(bin_, os.pathsep, os.environ["PATH"]),
                       CALLS=str(tmp_path / "calls"))
    done = subprocess.run(
        [shutil.which("snakemake"), "--snakefile", os.path.join(ROOT, "Snakefile"), "--config", "plan=" + plan,
         "--profile", os.path.join(ROOT, "profiles", "slurm"), "--latency-wait", "1"], cwd=str(tmp_path),
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
    failed = tmp_path / "calls.failed"
    assert done.returncode == 0 and not failed.exists(), done.stdout + (failed.read_text() if failed.exists() else "")
    calls = (tmp_path / "calls").read_text().splitlines()
    assert len(calls) == 4 and all("--cpus-per-task=1 " in call for call in calls)
    # What each job was estimated at.
    wanted = sorted("--mem={}M".format(job["mem_mb"]) for job in jobs)
    assert sorted(word for call in calls for word in call.split() if word.startswith("--mem")) == wanted
    assert [word for call in calls for word in call.split() if "gpu" in word] == ["--gres=gpu:2"]
    assert all(os.path.exists(path) for job in jobs for path in job["makes"])
    shown = fer("reproduce", *asked, "--show")
    # Sensitivity and specificity of two nets, each with the letter of what departs.
    assert len(re.findall(r"\b\d+\.\d\d +\[a\]", shown)) == 4 and "[a] not compared: " in shown, shown

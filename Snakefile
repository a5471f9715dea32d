# The jobs of a plan that `./fer reproduce TABLE --data DATA --out OUT --plan` has written, each a `./fer` call:
#
#     snakemake --snakefile Snakefile --config plan=OUT/plan.json --cores 8
#     snakemake --snakefile Snakefile --config plan=OUT/plan.json --profile profiles/slurm
#
# `./fer reproduce` runs it inside the environment; on a cluster it runs on the host. docs/cluster.md has more.
import json
import shlex

with open(config["plan"]) as stream:
    JOBS = json.load(stream)


rule all:
    input: [path for job in JOBS for path in job["makes"]]


for job in JOBS:
    rule:
        message: job["title"].replace("{", "{{").replace("}", "}}")
        input: [ancient(path) for path in job["needs"]]
        output: job["makes"]
        log: job["log"]
        threads: job["threads"]
        resources: mem_mb=job["mem_mb"], gpu=job["gpu"]
        params:
            command=" ".join(map(shlex.quote, job["command"])),
            # An option of Slurm: a cluster without graphics cards may refuse one that asks for none.
            cards="--gres=gpu:{}".format(job["gpu"]) if job["gpu"] else ""
        shell: "{params.command} > {log:q} 2>&1"

"""A sweep on a SLURM cluster: run it where jobs are submitted (in tmux, or as a small job of its own).

    pip install 'twinmodes[cluster]'
    python slurm_sweep.py sweep.toml sweep.icechunk

Jobs start dask workers; this process hands them batches of cells and is the only one who writes the store. If it is
killed, the same command goes on with what is missing. Change the queue, the memory and the times to your cluster's.
"""

import sys

from twinmodes.compare import sweep

JOBS = 20


def make_cluster():
    """One job: 8 worker processes of one thread each, which end by themselves before the job's time is over."""
    from dask_jobqueue import SLURMCluster

    return SLURMCluster(
        queue="cpu",
        cores=8,
        processes=8,
        memory="16GB",
        walltime="04:00:00",
        job_script_prologue=[
            "export OMP_NUM_THREADS=1",
            "export OPENBLAS_NUM_THREADS=1",
            "export MKL_NUM_THREADS=1",
        ],
        worker_extra_args=["--lifetime", "225m", "--lifetime-stagger", "10m"],
        scheduler_options={"dashboard_address": ":0"},
    )


if __name__ == "__main__":
    with make_cluster() as cluster:
        cluster.scale(jobs=JOBS)
        cluster.wait_for_workers(1)
        sweep(
            sys.argv[1],
            store=sys.argv[2],
            scheduler=cluster.scheduler_address,
            progress=lambda now: print(f"{now.finished} of {now.total} cells, {now.seconds_left:.0f} s left"),
            say=print,
        )

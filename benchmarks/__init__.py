"""Speed as ratios: what the library costs beside the loops that research notebooks run."""

import os

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"  # before numpy and torch are imported: more threads slow small nets down

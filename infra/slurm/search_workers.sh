#!/bin/sh
# Workers of the search, as an array of jobs: sbatch --array=1-8 --gres=gpu:1 infra/slurm/search_workers.sh
#
# To be submitted from the project's folder, with .venv active, after `dvc repro warm_up_head`. They stop when
# `search_lr_ratio.trials` are tried; `dvc repro` then concludes in seconds. On one machine they share a file;
# on several they need one PostgreSQL database: export HEADSTART_STUDY_STORAGE=postgresql+psycopg2://...
#SBATCH --job-name=search_worker
#SBATCH --array=1-2
#SBATCH --output=/dev/null
#SBATCH --no-requeue
logs=${HEADSTART_SCRATCH:-.headstart}/slurm
mkdir -p "$logs"
exec python -m infra.search_worker >"$logs/search-$SLURM_ARRAY_JOB_ID-$SLURM_ARRAY_TASK_ID.log" 2>&1

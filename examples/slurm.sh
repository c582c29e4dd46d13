#!/usr/bin/env bash
# Train on two nodes of a Slurm cluster:  sbatch examples/slurm.sh [settings of wds-bone train]
#
# One torchrun per node, one process per GPU. Slurm sends SIGTERM three minutes before the time limit and when the job is
# preempted. The run then saves a checkpoint, and the job is queued again; the same command continues the run.
#SBATCH --job-name=bone-age
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=12:00:00
#SBATCH --signal=B:TERM@180
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

first_node=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 20000))  # differs between jobs that may share a node

# shellcheck disable=SC2016  # each node must expand its own SLURM_NODEID
srun --cpus-per-task="$SLURM_CPUS_PER_TASK" --kill-on-bad-exit=1 bash -c 'exec torchrun \
    --nnodes "$SLURM_NNODES" --node-rank "$SLURM_NODEID" --nproc-per-node "$SLURM_GPUS_ON_NODE" \
    --master-addr "$0" --master-port "$1" \
    -m wds_bone.train "${@:2}"' "$first_node" "$port" --out runs/slurm --batch-size 256 "$@" &
step=$!

requeue() {
    kill -TERM "$step"
    wait "$step" || true
    scontrol requeue "$SLURM_JOB_ID"
}
trap requeue TERM
wait "$step"

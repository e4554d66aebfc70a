#!/usr/bin/env bash
# Train on all GPUs of one machine: train_multi_gpu.sh DATA RUN [maskgan-train options]
# A killed run continues with the same command.
set -euo pipefail
data=$1 run=$2
shift 2
accelerate launch --multi_gpu --num_processes "${GPUS:-$(nvidia-smi --list-gpus | wc -l)}" \
    "$(command -v maskgan-train)" --preset recommended --data "$data" --out "$run" "$@"

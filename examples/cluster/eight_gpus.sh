#!/usr/bin/env bash
# One machine with 8 GPUs: a worker on each, until all prompts of the store have their scores.
#
#   MODEL=my-model KNDB_DB=/data/kndb.db bash eight_gpus.sh
#
# Needs: pip install 'kndb[ray]'; the model registered (kndb model add) and the facts ingested.
# Killed, it goes on where it was when it is run again.
set -euo pipefail

: "${MODEL:?name the registered model: MODEL=my-model}"
WORKERS=${WORKERS:-8}

kndb attribute --model "$MODEL" --engine ray --workers "$WORKERS" --gpus-per-worker 1 --dtype bfloat16
kndb refine --model "$MODEL"
kndb probe suppress --model "$MODEL" --engine ray --workers "$WORKERS" --gpus-per-worker 1

#!/bin/sh
# Installs what an image's service needs, as requirements.lock pins it by version and hash: install-dependencies.sh SERVICE PYTHON
# Run by the Dockerfile, and by `make images-check` in an empty virtual environment.
set -eu
service=$1
python=$2
case $service in
    policy | selector) extras="cluster" ;;
    teacher-gateway | cli) extras="cluster gateway" ;;
    trainer) extras="cluster kubernetes" ;;
    selector-worker | training) extras="cluster model" ;;
    *)
        echo "SERVICE is '$service'; one of policy, selector, teacher-gateway, trainer, cli, selector-worker, training" >&2
        exit 64
        ;;
esac
set -- --python "$python" --require-hashes --constraint requirements.lock -r pyproject.toml
for extra in $extras; do
    set -- "$@" --extra "$extra"
done
uv pip install --quiet --compile-bytecode --no-build "$@"

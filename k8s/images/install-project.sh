#!/bin/sh
# Installs BalDistill itself beside its dependencies: install-project.sh PYTHON
# What builds the wheel (setuptools) is pinned by requirements.lock as well.
set -eu
uv pip install --quiet --python "$1" --compile-bytecode --no-deps --build-constraint requirements.lock .

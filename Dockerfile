# syntax=docker/dockerfile:1.7
# One file for all images: docker build --build-arg SERVICE=policy -t baldistill/policy:dev .
# SERVICE: policy, selector, teacher-gateway, trainer, cli, selector-worker, training
# The last two bring torch with CUDA's libraries (the driver is the node's); the others are small and know no torch.
# Pin the base by digest where you build: --build-arg PYTHON_IMAGE=python:3.11.14-slim-bookworm@sha256:...
ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ARG SERVICE
WORKDIR /src
RUN pip install --no-cache-dir uv==0.13.9
# Dependencies first: they change seldom.
COPY pyproject.toml requirements.lock ./
COPY k8s/images/install-dependencies.sh k8s/images/
RUN python -m venv --without-pip /opt/venv \
    && k8s/images/install-dependencies.sh "${SERVICE}" /opt/venv/bin/python
COPY README.md ./
COPY libs libs
COPY services services
COPY k8s/images/install-project.sh k8s/images/
RUN k8s/images/install-project.sh /opt/venv/bin/python

# Nothing of the build comes along but the environment: no compiler, no package manager's cache, no source tree.
FROM ${PYTHON_IMAGE}
ARG SERVICE
LABEL org.opencontainers.image.title="baldistill-${SERVICE}" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/opt/venv/bin:${PATH} \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
RUN groupadd --gid 10001 baldistill \
    && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin baldistill
COPY --from=build /opt/venv /opt/venv
# By number: Kubernetes checks `runAsNonRoot` before it could look a name up.
USER 10001:10001
WORKDIR /tmp
# What it is to be is said by k8s/base: `python -m services.policy`, and so on.
CMD ["baldistill", "--help"]

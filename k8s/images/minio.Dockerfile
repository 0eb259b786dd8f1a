# syntax=docker/dockerfile:1.7
# An S3 server for overlays/dev: docker build -f k8s/images/minio.Dockerfile -t baldistill/minio:dev .
# The project publishes no images any more; this is the version of the local stack (libs/baldistill/local_stack/versions.toml).
FROM golang:1.25.4-bookworm AS build
ENV CGO_ENABLED=0
RUN go install github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c

FROM scratch
COPY --from=build /go/bin/minio /minio
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
USER 10001:10001
ENTRYPOINT ["/minio"]

"""Least privilege in the bucket: what a tenant's workers, or a service, may touch (DESIGN 5)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from baldistill.errors import InvalidInput

Policy = Mapping[str, object]

# What a policy document may carry as a plain prefix: no wildcard, no path.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_MODELS = "models"
_READ = ["s3:GetObject"]
_READ_AND_WRITE = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]


def tenant_policy(*, bucket: str, tenant: str) -> Policy:
    """Return the policy document of a tenant: its own prefix to read and write, base models to read. Raises InvalidInput."""
    if not _NAME.fullmatch(tenant):
        raise InvalidInput(f"'{tenant}' is no tenant's name: letters, digits, '.', '_' and '-' only", field="tenant")
    own = f"tenants/{tenant}"
    return _policy(bucket, writable=[own], readable=[_MODELS])


def service_policy(*, bucket: str) -> Policy:
    """Return the policy document of the four services, which work for all tenants: models are read, never written."""
    return _policy(bucket, writable=["tenants"], readable=[_MODELS])


def operator_policy(*, bucket: str) -> Policy:
    """Return the policy document of whoever mirrors models, deletes runs and makes the bucket."""
    whole = f"arn:aws:s3:::{bucket}"
    return {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": ["s3:*"], "Resource": [whole, f"{whole}/*"]}],
    }


def _policy(bucket: str, *, writable: Sequence[str], readable: Sequence[str]) -> Policy:
    whole = f"arn:aws:s3:::{bucket}"
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": ["s3:ListBucket"],
                "Resource": [whole],
                "Condition": {"StringLike": {"s3:prefix": [f"{prefix}/*" for prefix in [*writable, *readable]]}},
            },
            {"Effect": "Allow", "Action": _READ, "Resource": [f"{whole}/{prefix}/*" for prefix in readable]},
            {"Effect": "Allow", "Action": _READ_AND_WRITE, "Resource": [f"{whole}/{prefix}/*" for prefix in writable]},
        ],
    }

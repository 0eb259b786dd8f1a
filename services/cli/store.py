"""`baldistill store`: make the bucket, print what a tenant's workers may touch."""

from __future__ import annotations

from typing import Annotated

import typer

from services.cli.output import MESSAGES, print_json
from services.cli.stores import cluster_store_settings

store_app = typer.Typer(help="The artifact store of a cluster: BALDISTILL_STORE__...", no_args_is_help=True)


@store_app.command()
def init() -> None:
    """Make the bucket where it is absent, and check that the server keeps create-only writes."""
    from baldistill.artifacts.opening import ensure_bucket

    settings = cluster_store_settings()
    ensure_bucket(settings)
    MESSAGES.print(f"Bucket {settings.bucket} at {settings.endpoint} is ready.", soft_wrap=True)


@store_app.command()
def policy(
    tenant: Annotated[
        str | None, typer.Argument(metavar="[TENANT]", help="Whose workers; none: the services' own policy.")
    ] = None,
) -> None:
    """Print the S3 policy document that lets a tenant's workers reach its prefix, and no other.

    Example: baldistill store policy acme > acme.json && mc admin policy create minio acme acme.json
    """
    from baldistill.artifacts.s3_policy import service_policy, tenant_policy

    bucket = cluster_store_settings().bucket
    print_json(tenant_policy(bucket=bucket, tenant=tenant) if tenant else service_policy(bucket=bucket))

"""One bucket of any S3 endpoint in the few operations that a store is made of; every error leaves with a verdict.

minio-py's public `put_object` cannot send `If-None-Match` (its `metadata=` becomes `x-amz-meta-...` and the object is
silently overwritten: seen), so conditional and multipart writes use the client's own building blocks.
"""

from __future__ import annotations

import contextlib
import hashlib
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, TypeVar
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.datatypes import Part
from minio.deleteobjects import DeleteObject
from minio.error import MinioException, S3Error
from urllib3.exceptions import HTTPError

from baldistill.artifacts.s3_faults import Patience, is_missing, is_taken, meaning, retrying
from baldistill.errors import ArtifactMissing, InvalidInput
from baldistill.settings import StoreSettings

_T = TypeVar("_T")

_CHUNK_BYTES = 1 << 20
# Threads of one process that ask at the same time; more wait for no one, they open connections of their own.
_POOLED_CONNECTIONS = 32
# S3 takes 1000 keys in one request.
_KEYS_PER_REQUEST = 1000


class S3Bucket:
    """Thread-safe. Raises DependencyUnavailable in bounded time, StorageFull, StoreAccessDenied."""

    def __init__(self, settings: StoreSettings) -> None:
        """Make the client; nothing is asked of the endpoint yet. Raises InvalidInput."""
        url = urlsplit(settings.endpoint)
        if url.scheme not in {"http", "https"} or not url.netloc or url.path.strip("/"):
            raise InvalidInput(f"'{settings.endpoint}' is not an http or https URL of a host", field="store.endpoint")
        self.settings = settings
        self._http = _connections(settings)
        self._client = Minio(
            url.netloc,
            access_key=settings.access_key or None,
            secret_key=settings.secret_key.get_secret_value() or None,
            secure=url.scheme == "https",
            # Given, so that the client does not ask for it: a tenant's policy need not allow that.
            region=settings.region,
            http_client=self._http,
        )

    def close(self) -> None:
        """Close idle connections. Idempotent."""
        self._http.clear()

    def ensure(self) -> None:
        """Make the bucket where it is absent. Raises InvalidInput where the endpoint knows no create-only writes."""
        name = self.settings.bucket

        def make() -> None:
            with contextlib.suppress(S3Error):
                if self._client.bucket_exists(name):
                    return
            try:
                self._client.make_bucket(name, location=self.settings.region)
            except S3Error as error:
                if error.code not in {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}:
                    raise

        self._try(make, key=name)
        probe = f"probes/{uuid.uuid4().hex}.json"
        created = [self.put_if_absent(probe, b"{}") for _ in range(2)]
        self.delete([probe])
        if created != [True, False]:
            raise InvalidInput(
                f"{self.settings.endpoint} overwrites objects in spite of `If-None-Match: *`; use a server that keeps it",
                field="store.endpoint",
            )

    def put(self, key: str, data: bytes) -> None:
        """Write an object."""
        self._try(lambda: self._client._put_object(self.settings.bucket, key, data), key=key)  # noqa: SLF001

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write an object where there is none; False where there is one, be it our own of a try whose answer was lost."""

        def create() -> bool:
            headers: dict[str, str | list[str] | tuple[str]] = {
                "If-None-Match": "*",
                "Content-Type": "application/json" if key.endswith(".json") else "application/octet-stream",
            }
            try:
                self._client._put_object(self.settings.bucket, key, data, headers)  # noqa: SLF001
            except S3Error as error:
                if is_taken(error):
                    return False
                raise
            return True

        return self._try(create, key=key)

    def etag(self, key: str) -> str | None:
        """Return an object's entity tag, None where there is none or we may not know: the write that follows says why."""

        def stat() -> str | None:
            try:
                return str(self._client.stat_object(self.settings.bucket, key).etag)
            except S3Error as error:
                # The answer to HEAD has no body, so that wrong keys look like a missing right.
                if is_missing(error) or error.code == "AccessDenied":
                    return None
                raise

        return self._try(stat, key=key)

    def download(self, key: str, sink: BinaryIO, *, size_bytes: int | None = None) -> str:
        """Write an object's bytes to `sink` and return their sha256. A broken transfer goes on where it broke.

        size_bytes: what is expected, if known. Raises ArtifactMissing.
        """
        digest = hashlib.sha256()
        offset = 0
        patience = Patience(self.settings.retry_for_s)
        while True:
            try:
                for chunk in self._chunks(key, offset=offset):
                    sink.write(chunk)
                    digest.update(chunk)
                    offset += len(chunk)
                    patience.progressed()
            except (MinioException, HTTPError) as error:
                if is_missing(error):
                    raise ArtifactMissing(key=key) from None
                if offset and offset == size_bytes:
                    return digest.hexdigest()
                with self._understood(key):
                    patience.wait_after(error)
            else:
                return digest.hexdigest()

    def upload_parts(self, key: str, parts: Iterable[bytes]) -> None:
        """Write a big object part by part, one in memory at a time; it is visible when all are there.

        Where `parts` raises, nothing is written.
        """
        bucket, client = self.settings.bucket, self._client
        upload_id = self._try(lambda: client._create_multipart_upload(bucket, key, {}), key=key)  # noqa: SLF001
        try:
            done: list[Part] = []
            for number, data in enumerate(parts, start=1):
                etag = self._try(
                    lambda data=data, number=number: client._upload_part(bucket, key, data, None, upload_id, number),  # type: ignore[misc]  # noqa: SLF001
                    key=key,
                )
                done.append(Part(number, etag))
            self._complete(key, upload_id, done)
        except BaseException:
            # Best effort: what is left of an upload is invisible, and servers expire it.
            with contextlib.suppress(MinioException, HTTPError):
                client._abort_multipart_upload(bucket, key, upload_id)  # noqa: SLF001
            raise

    def keys(self, *, folder: str) -> Iterator[str]:
        """Yield the keys under a folder in lexical order, a page of 1000 in memory."""
        after: str | None = None
        while True:
            page = self._try(lambda after=after: self._page(folder, after), key=f"{folder}/")  # type: ignore[misc]
            yield from page
            if len(page) < _KEYS_PER_REQUEST:
                return
            after = page[-1]

    def delete(self, keys: Iterable[str]) -> int:
        """Delete objects, whether they are there or not, and return their number."""
        count = 0
        batch: list[str] = []
        for key in keys:
            batch.append(key)
            if len(batch) == _KEYS_PER_REQUEST:
                count += self._delete(batch)
                batch = []
        return count + (self._delete(batch) if batch else 0)

    def _delete(self, keys: list[str]) -> int:
        def remove() -> None:
            errors = list(self._client.remove_objects(self.settings.bucket, [DeleteObject(key) for key in keys]))
            for error in errors:
                raise S3Error(
                    response=None,  # type: ignore[arg-type]
                    code=error.code,
                    message=error.message,
                    resource=error.name,
                    request_id=None,
                    host_id=None,
                )

        self._try(remove, key=keys[0])
        return len(keys)

    def _chunks(self, key: str, *, offset: int) -> Iterator[bytes]:
        response = self._client.get_object(self.settings.bucket, key, offset=offset)
        whole = False
        try:
            yield from response.stream(_CHUNK_BYTES)
            whole = True
        finally:
            # A connection with unread bytes cannot serve again.
            if not whole:
                response.close()
            response.release_conn()

    def _page(self, folder: str, after: str | None) -> list[str]:
        found = self._client._list_objects(  # noqa: SLF001
            self.settings.bucket, prefix=f"{folder}/", start_after=after, max_keys=_KEYS_PER_REQUEST
        )
        names = []
        for one in found:
            names.append(str(one.object_name))
            if len(names) == _KEYS_PER_REQUEST:
                break
        return names

    def _complete(self, key: str, upload_id: str, parts: list[Part]) -> None:
        def complete() -> None:
            try:
                self._client._complete_multipart_upload(self.settings.bucket, key, upload_id, parts)  # noqa: SLF001
            except S3Error as error:
                # An earlier try was carried out and its answer lost.
                if error.code != "NoSuchUpload" or self.etag(key) is None:
                    raise

        self._try(complete, key=key)

    def _try(self, operation: Callable[[], _T], *, key: str) -> _T:
        with self._understood(key):
            return retrying(operation, for_s=self.settings.retry_for_s)

    @contextlib.contextmanager
    def _understood(self, key: str) -> Iterator[None]:
        try:
            yield
        except (MinioException, HTTPError) as error:
            settings = self.settings
            raise meaning(
                error,
                endpoint=settings.endpoint,
                bucket=settings.bucket,
                access_key=settings.access_key,
                key=key,
            ) from error


def _connections(settings: StoreSettings) -> urllib3.PoolManager:
    if settings.ca_file is not None and not settings.ca_file.is_file():
        raise InvalidInput("there is no such file", path=settings.ca_file, field="store.ca_file")
    return urllib3.PoolManager(
        maxsize=_POOLED_CONNECTIONS,
        timeout=urllib3.Timeout(connect=settings.connect_timeout_s, read=settings.read_timeout_s),
        # Tried again above, with every request signed anew.
        retries=False,
        cert_reqs="CERT_REQUIRED",
        ca_certs=str(settings.ca_file) if settings.ca_file else None,
    )

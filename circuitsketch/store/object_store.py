"""Objects of an object store (S3 and what speaks its protocol, Google Cloud Storage, Azure), by the package obstore.

In: an address. Out: `RemoteObjects`. obstore lists page by page, writes only what is new (If-None-Match), and is
imported in 10 ms, as one package where fsspec's s3fs brings ten; its library takes 16 MB, so it is an extra. Its errors
quote what a server answered, which may name an access key: only the status and its code are passed on. It does not hear
Ctrl-C within a call, so that a server that is away is called again from here.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from circuitsketch.errors import InputError, StoreError

RETRY_SECONDS = 60.0  # how long a server may be away; a call then fails, and a later attempt goes on
TIMEOUT_SECONDS = 300.0  # of one request: a block of 1 GB at 4 MB/s
SHORTEST, LONGEST = 0.1, 5.0  # seconds between two calls
ONE_REQUEST = 1 << 30  # bytes above which an object is sent in parts; S3 takes 5 GiB at once
AGAIN = "call again with the same path and the same staging: finished blocks are kept"
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")


class RemoteObjects:
    """Objects below an address of an object store; one in memory is that of this process.

    Parameters
    ----------
    address : str
        As `check_address` returns it.
    """

    def __init__(self, address: str) -> None:
        try:
            import obstore
        except ImportError:
            raise InputError(
                f"{address} is in an object store, which requires the package obstore on every machine that computes; "
                "pip install 'circuitsketch[objects]'"
            ) from None
        self.address, self.library = address, obstore
        self.store = memory_at(address) if address.startswith("memory://") else open_store(address)

    def put(self, name: str, data: Any) -> None:
        """As in `Objects`."""
        in_parts = memoryview(data).nbytes > ONE_REQUEST
        with self.explain_errors("written"):
            call_again(lambda: self.library.put(self.store, name, as_bytes(data), use_multipart=in_parts))

    def put_new(self, name: str, data: Any) -> bool:
        """As in `Objects`; False also for what this call has written, if the answer was lost on the way."""
        options = {"mode": "create", "use_multipart": False}
        with self.explain_errors("written"):
            try:
                call_again(lambda: self.library.put(self.store, name, as_bytes(data), **options))
            except self.library.exceptions.AlreadyExistsError:
                return False
        return True

    def get(self, name: str) -> memoryview | None:
        """As in `Objects`."""
        with self.explain_errors("read"):
            try:
                return memoryview(call_again(lambda: self.library.get(self.store, name).bytes()))
            except FileNotFoundError as reason:
                refuse_missing_bucket(reason)
                return None

    def size(self, name: str) -> int | None:
        """As in `Objects`."""
        with self.explain_errors("read"):
            try:
                return int(call_again(lambda: self.library.head(self.store, name))["size"])
            except FileNotFoundError as reason:
                refuse_missing_bucket(reason)
                return None

    def list(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """As in `Objects`."""
        with self.explain_errors("listed"):
            entries = call_again(lambda: [entry for page in self.library.list(self.store) for entry in page])
        for entry in entries:
            name = str(entry["path"])
            if name.startswith(prefix) and "/" not in name:
                yield name, int(entry["size"])

    def delete(self, name: str) -> None:
        """As in `Objects`."""
        with self.explain_errors("deleted from"):
            try:
                call_again(lambda: self.library.delete(self.store, name))
            except FileNotFoundError as reason:
                refuse_missing_bucket(reason)

    @contextmanager
    def explain_errors(self, verb: str) -> Iterator[None]:
        """Turn the library's errors into a StoreError with a remedy."""
        errors = self.library.exceptions
        try:
            yield
        except (errors.BaseError, OSError, ValueError) as reason:
            # No `from reason`: a traceback would show the server's whole answer.
            raise StoreError(f"{self.address} cannot be {verb}: {describe_error(reason)}") from None


def call_again(function: Callable[[], Any]) -> Any:
    """Call a function, again while its server is away or overloaded, for at most RETRY_SECONDS."""
    limit, pause = time.monotonic() + RETRY_SECONDS, SHORTEST
    while True:
        try:
            return function()
        except Exception as reason:
            if not is_passing(reason) or time.monotonic() > limit:
                raise
        time.sleep(pause)
        pause = min(2 * pause, LONGEST)


def memory_at(address: str) -> Any:
    """Return this process's store in memory at an address."""
    if address not in memories:
        from obstore.store import MemoryStore

        memories[address] = MemoryStore()
    return memories[address]


memories: dict[str, Any] = {}


def open_store(address: str) -> Any:
    """Return the library's store at an address, with credentials of this process's environment."""
    from obstore.exceptions import BaseError
    from obstore.store import from_url

    is_plain = next((os.environ[name] for name in ENDPOINTS if name in os.environ), "").startswith("http://")
    try:
        return from_url(
            address,
            client_options={
                "timeout": timedelta(seconds=TIMEOUT_SECONDS),
                "connect_timeout": timedelta(seconds=10),
                "allow_http": is_plain,  # whoever names such an endpoint means it
            },
            retry_config={"max_retries": 1, "retry_timeout": timedelta(seconds=1)},
        )
    except (BaseError, ValueError) as reason:
        raise StoreError(f"{address} cannot be opened: {describe_error(reason)}") from None


def as_bytes(data: Any) -> Any:
    """Return a buffer as one of bytes, without a copy."""
    return memoryview(data).cast("B")


def refuse_missing_bucket(reason: FileNotFoundError) -> None:
    """Raise again what says that there is no bucket, rather than no object."""
    if code_of(reason) in ("NoSuchBucket", "ContainerNotFound"):
        raise reason


def code_of(reason: BaseException) -> str:
    """Return the code of a server's answer, such as NoSuchBucket, or nothing.

    >>> code_of(ValueError("<Error><Code>NoSuchBucket</Code><AWSAccessKeyId>AKIA</AWSAccessKeyId></Error>"))
    'NoSuchBucket'
    """
    match = re.search(r"<Code>([A-Za-z]{1,60})</Code>", str(reason))
    return match[1] if match else ""


def status_of(reason: BaseException) -> int:
    """Return the status of a server's answer, or 0."""
    match = re.search(r"status code: ([0-9]{3})", str(reason))
    return int(match[1]) if match else 0


def is_malformed(reason: BaseException) -> bool:
    """Return whether an address or a setting is at fault."""
    text = str(reason)
    return isinstance(reason, ValueError) or "builder error" in text or "Configuration" in type(reason).__name__


def is_passing(reason: BaseException) -> bool:
    """Return whether an error may be gone when a server is called again."""
    status = status_of(reason)
    if status:
        return status in (408, 429) or (status >= 500 and status not in (501, 507))
    known = ("AlreadyExistsError", "PermissionDeniedError", "UnauthenticatedError", "NotSupportedError")
    return not (isinstance(reason, FileNotFoundError) or is_malformed(reason) or type(reason).__name__ in known)


def describe_error(reason: BaseException) -> str:
    """Return what went wrong and what to do, without the server's text."""
    number, code = status_of(reason), code_of(reason)
    answer = " ".join(str(part) for part in (number, code) if part)
    if isinstance(reason, FileNotFoundError) or code in ("NoSuchBucket", "ContainerNotFound"):
        return "its bucket does not exist; create it, or check the address and AWS_REGION"
    if number in (401, 403) or type(reason).__name__ in ("PermissionDeniedError", "UnauthenticatedError"):
        return (
            f"access is refused ({answer or 'no rights'}); check the credentials in the environment of this process "
            "and of the workers, and their rights to read, write, list and delete there"
        )
    if number == 501 or type(reason).__name__ == "NotSupportedError":
        return (
            f"the server does not support a request ({answer or 'not supported'}), such as a conditional write "
            "(If-None-Match); use a newer server, or a shared folder"
        )
    if number == 507 or "StorageFull" in code or "Quota" in code:
        return f"the store is full ({answer}); free some space, and {AGAIN}"
    if number:
        return f"the server answers {answer}; {AGAIN}"
    if is_malformed(reason):
        return "the address or a setting in the environment is malformed; check AWS_ENDPOINT_URL and AWS_REGION"
    return f"the server cannot be reached; check the network and AWS_ENDPOINT_URL, and {AGAIN}"

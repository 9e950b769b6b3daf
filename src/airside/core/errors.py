"""Every exception of Airside.

The class says *whose fault* the error is, and so what happens next:

- `InputError`: the bytes or the request are wrong. Never retried; the archive is rejected, or the
  client gets a 4xx.
- `StoreError`, `UnavailableError`: our disk or the outside. Retried with back-off.
- `NotFoundError`, `ConflictError`, `ConfigError`: as they say.

Foreign exceptions (`OSError`, `sqlite3.Error`, `zlib.error`, ...) are translated once, in the
adapter that meets them. Anything that is not an `AirsideError` is a bug and ends the agent.
What a person reads says what happened, to what, why, and what to do.
"""

from typing import ClassVar


class AirsideError(Exception):
    """Base class; never raised itself.

    `code` is stable and safe to match on; `context` names the objects concerned (path, image, blob,
    expected, found, hint) and is part of JSON output and logs.
    """

    code: ClassVar[str] = "error"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, **context: object) -> None:
        super().__init__(_storable(message))
        self.message = _storable(message)
        self.context: dict[str, str] = {}
        self.add_context(**context)

    def add_context(self, **context: object) -> None:
        """Add objects to the context, unless they are set. None is skipped."""
        for key, value in context.items():
            if value is not None:
                self.context.setdefault(key, _storable(str(value)))

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.context))


def _storable(text: str) -> str:
    """Returns the text as UTF-8 can encode it: names of files may have any bytes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _rebuild(cls: type[AirsideError], message: str, context: dict[str, str]) -> AirsideError:
    return cls(message, **context)


class InputError(AirsideError):
    """The bytes or the request are wrong: a retry can't help."""

    code = "input"


class ReferenceInvalidError(InputError):
    code = "reference_invalid"


class DigestInvalidError(InputError):
    code = "digest_invalid"


class ManifestInvalidError(InputError):
    """A document (manifest, index, config, `manifest.json`) violates the spec."""

    code = "manifest_invalid"


class RequestInvalidError(InputError):
    code = "request_invalid"


class ArchiveError(InputError):
    code = "archive"


class ArchiveFormatError(ArchiveError):
    """The archive has an unknown format or is damaged."""

    code = "archive_format"


class ArchiveTruncatedError(ArchiveError):
    """The archive ends early: perhaps it is still being written. The state is `incomplete`."""

    code = "archive_truncated"


class ArchiveUnsafeError(ArchiveError):
    """A member that no honest image archive has: absolute path, `..`, device, link to outside."""

    code = "archive_unsafe"


class LinkRefusedError(ArchiveUnsafeError):
    """A link leads out of the watched directory, to what its setting `links` does not allow."""

    code = "link_refused"


class ArchiveLimitError(ArchiveError):
    """A limit of the settings was exceeded; the message names the setting."""

    code = "archive_limit"


class VerificationError(InputError):
    code = "verification"


class NotRunnableError(InputError):
    """A manifest that no container can run from: an artifact, or layers that none can unpack."""

    code = "not_runnable"


class LayerRefusedError(InputError):
    """A layer is damaged or breaks a limit; the message names the member."""

    code = "layer_refused"


class UnusualLayerError(AirsideError):
    """A layer has something that only containerd's own Apply shall write. Never shown."""

    code = "layer_unusual"


class DigestMismatchError(VerificationError):
    code = "digest_mismatch"


class ChecksumMismatchError(VerificationError):
    """A file is not the one of which a list of checksums beside it has the digest."""

    code = "checksum_mismatch"


class DiffIdMismatchError(VerificationError):
    """An unpacked layer has another diff ID than the image's config says."""

    code = "diff_id_mismatch"


class SizeMismatchError(VerificationError):
    code = "size_mismatch"


class MissingBlobError(VerificationError):
    code = "missing_blob"


class UploadRangeError(InputError):
    """A chunk does not begin at the upload's end; `found` is that offset."""

    code = "upload_range"


class TooLargeError(InputError):
    """A body is larger than a limit of the settings; the message names it."""

    code = "too_large"


class DeniedError(AirsideError):
    """The settings do not allow the request."""

    code = "denied"


class SwitchedOffError(DeniedError):
    """A setting forbids this to everybody."""

    code = "switched_off"


class NotFoundError(AirsideError):
    code = "not_found"


class UploadUnknownError(NotFoundError):
    """No such upload: it ended, was cancelled, expired, or the agent was restarted."""

    code = "upload_unknown"


class ConflictError(AirsideError):
    """Another process holds or changed an object, for instance another agent or the writer."""

    code = "conflict"


class ArchiveChangedError(ConflictError):
    """The archive changed while it was read: nothing was stored, it is read again when quiet."""

    code = "archive_changed"
    retryable = True


class StoppedError(AirsideError):
    """The work was stopped because the agent stops or the archive was replaced."""

    code = "stopped"


class StoreError(AirsideError):
    """Our own disk or catalog failed."""

    code = "store"
    retryable = True


class StorageFullError(StoreError):
    code = "storage_full"


class BlobCollectedError(StoreError):
    """Garbage collection deleted a blob that an import relied on: retry the import."""

    code = "blob_collected"


class StoreCorruptError(StoreError):
    code = "store_corrupt"


class UnavailableError(AirsideError):
    """A service or file outside Airside is unavailable for now."""

    code = "unavailable"
    retryable = True


class OverdueError(UnavailableError):
    """Our own disk, or the storage behind it, does not answer in time."""

    code = "overdue"


class TooManyError(UnavailableError):
    """A limit of concurrent work is reached; the message names it."""

    code = "too_many"


class ArchiveUnreadableError(UnavailableError):
    """The operating system does not let us read the archive."""

    code = "archive_unreadable"


class ContainerdError(UnavailableError):
    """containerd is unavailable or refused a call; `status` in the context is gRPC's name."""

    code = "containerd"

    @property
    def is_away(self) -> bool:
        """True if the call did not reach containerd, or not in time."""
        return self.context.get("status") in {"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"}


class PullRefusedError(ContainerdError):
    """A registry answered that it lacks the image or denies access."""

    code = "pull_refused"


class UpstreamError(UnavailableError):
    """An upstream registry denies access, or sent content that is not accepted."""

    code = "upstream"


class UpstreamAwayError(UpstreamError):
    """An upstream registry does not answer, or fails: it is not asked for a while."""

    code = "upstream_away"


class ConfigError(AirsideError):
    code = "config"

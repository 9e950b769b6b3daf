"""Every exception of Airside.

The classes tell *whose fault* it is and so what happens next:

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

    `code` is stable and safe to match on; `context` names what was concerned (path, image, blob,
    expected, found, hint) and goes into JSON output and logs.
    """

    code: ClassVar[str] = "error"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, **context: object) -> None:
        super().__init__(_storable(message))
        self.message = _storable(message)
        self.context: dict[str, str] = {}
        self.add_context(**context)

    def add_context(self, **context: object) -> None:
        """Add what was concerned, where it is not told yet. None tells nothing."""
        for key, value in context.items():
            if value is not None:
                self.context.setdefault(key, _storable(str(value)))

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.context))


def _storable(text: str) -> str:
    """The text as UTF-8 can have it: names of files and members may have other bytes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _rebuild(cls: type[AirsideError], message: str, context: dict[str, str]) -> AirsideError:
    return cls(message, **context)


class InputError(AirsideError):
    """The bytes or the request are wrong: trying again can't help."""

    code = "input"


class ReferenceInvalidError(InputError):
    code = "reference_invalid"


class DigestInvalidError(InputError):
    code = "digest_invalid"


class ManifestInvalidError(InputError):
    """A document (manifest, index, config, `manifest.json`) is not what the spec says."""

    code = "manifest_invalid"


class RequestInvalidError(InputError):
    code = "request_invalid"


class ArchiveError(InputError):
    code = "archive"


class ArchiveFormatError(ArchiveError):
    """Not an archive that we read, or damaged."""

    code = "archive_format"


class ArchiveTruncatedError(ArchiveError):
    """The archive ends early: perhaps it is still being written. The state is `incomplete`."""

    code = "archive_truncated"


class ArchiveUnsafeError(ArchiveError):
    """A member that no honest image archive has: absolute path, `..`, device, link to outside."""

    code = "archive_unsafe"


class ArchiveLimitError(ArchiveError):
    """A limit of the settings was passed; the message names the setting."""

    code = "archive_limit"


class VerificationError(InputError):
    code = "verification"


class NotRunnableError(InputError):
    """A manifest that no container can run from: an artifact, or layers that none can unpack."""

    code = "not_runnable"


class DigestMismatchError(VerificationError):
    code = "digest_mismatch"


class DiffIdMismatchError(VerificationError):
    """A layer that was unpacked is not the one that the image's config says."""

    code = "diff_id_mismatch"


class SizeMismatchError(VerificationError):
    code = "size_mismatch"


class MissingBlobError(VerificationError):
    code = "missing_blob"


class UploadRangeError(InputError):
    """A chunk that does not begin where the upload ends; `found` is where that is."""

    code = "upload_range"


class TooLargeError(InputError):
    """A body is larger than a limit of the settings; the message names it."""

    code = "too_large"


class DeniedError(AirsideError):
    """Understood, and not allowed by the settings."""

    code = "denied"


class SwitchedOffError(DeniedError):
    """A setting says that nobody may do this here."""

    code = "switched_off"


class NotFoundError(AirsideError):
    code = "not_found"


class UploadUnknownError(NotFoundError):
    """No such upload: it ended, was cancelled, grew too old, or the agent was restarted."""

    code = "upload_unknown"


class ConflictError(AirsideError):
    """Somebody else holds or changed what we need, for instance another agent or the writer."""

    code = "conflict"


class ArchiveChangedError(ConflictError):
    """The archive changed while it was read: nothing was kept, it is read again when quiet."""

    code = "archive_changed"
    retryable = True


class StoppedError(AirsideError):
    """The work was given up because the agent stops or the archive was replaced."""

    code = "stopped"


class StoreError(AirsideError):
    """Our own disk or catalog failed."""

    code = "store"
    retryable = True


class StorageFullError(StoreError):
    code = "storage_full"


class BlobCollectedError(StoreError):
    """A blob that was there, and so was not written, went while it was needed: begin again."""

    code = "blob_collected"


class StoreCorruptError(StoreError):
    code = "store_corrupt"


class UnavailableError(AirsideError):
    """The outside is away or unreadable for now."""

    code = "unavailable"
    retryable = True


class OverdueError(UnavailableError):
    """Our own disk, or whatever is behind it, does not answer in time."""

    code = "overdue"


class TooManyError(UnavailableError):
    """A bound on how much goes on at once is reached; it is in the message."""

    code = "too_many"


class ArchiveUnreadableError(UnavailableError):
    """The operating system does not let us read the archive."""

    code = "archive_unreadable"


class ContainerdError(UnavailableError):
    """containerd is away or refused a call; `status` in the context is gRPC's name for it."""

    code = "containerd"

    @property
    def is_away(self) -> bool:
        """Whether the call did not reach it, or not in time."""
        return self.context.get("status") in {"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"}


class PullRefusedError(ContainerdError):
    """A registry answered that it lacks the image, or does not give it to us."""

    code = "pull_refused"


class UpstreamError(UnavailableError):
    """A registry upstream refuses us, or gives what can't be taken."""

    code = "upstream"


class UpstreamAwayError(UpstreamError):
    """It does not answer, or fails: it is better left alone for a while."""

    code = "upstream_away"


class ConfigError(AirsideError):
    code = "config"

"""Settings: frozen, read once, each with its default and unit beside it.

Order, later wins: defaults, the TOML file, `AIRSIDE_*` of the environment, flags. An unknown key
is an error. `EffectiveSettings.origins` has the origin of each value (`airside config show`).
Limits that guard against hostile archives are in `Limits`.
"""

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, fields, replace
from pathlib import Path
from typing import Any

from airside.core.errors import ConfigError
from airside.core.host_root import HOST_ROOT, on_host
from airside.core.listen_address import parse_listen
from airside.core.settings import GIB, KIB, MIB, Limits, RetentionRule, Settings, WatchedDirectory
from airside.core.upstream_config import parse_upstream
from airside.core.webhook_config import check_webhooks, parse_webhook

CHOICES: Mapping[str, tuple[str, ...]] = {
    "log_format": ("auto", "text", "json"),
    "log_level": ("debug", "info", "warning", "error"),
    "verify": ("full", "names"),
    "verify_diff_ids": ("auto", "always", "never"),
    "on_removal": ("unpin", "delete", "keep"),
    "links": ("inside", "owner", "any"),
    "unpack": ("node-platform", "never"),
    "unpack_by": ("auto", "containerd"),
    "import_priority": ("normal", "low", "idle"),
    "other_platforms": ("none", "sole", "all"),
    "conflict": ("ours", "theirs"),
    "foreign_names": ("keep", "release"),
    "push": ("own", "all", "none"),
    "delete": ("own", "all", "none"),
    "read_through": ("open", "true", "digests", "self", "false"),
    "anonymous": ("auto", "pull", "none"),
    "metrics": ("auto", "all", "none"),
}
CONFIG = "/etc/airside/airside.toml"
"""The configuration file that an installation makes."""
_PARSERS = {"upstream": parse_upstream, "webhooks": parse_webhook}
_NO_SETTINGS = {"AIRSIDE_FAULT", "AIRSIDE_CONFIG", HOST_ROOT}
_OF_KUBERNETES = ("AIRSIDE_SERVICE_", "AIRSIDE_PORT")
"""Variables that a pod gets for a Service named airside: they are no settings."""
_LISTS = (
    *("images", "runtime", "extra_registries", "rewrite", "registry_names", "upstream"),
    "allowed_hosts",
)
_MOST_LOW_PERCENT = 90
_PERIODS = (
    *("rescan_seconds", "poll_seconds", "reconcile_seconds", "retry_seconds"),
    *("pull_seconds", "refused_seconds", "upstream_seconds"),
)
_PLATFORM = re.compile(r"[a-z0-9_.-]+/[a-z0-9_.-]+(/[a-z0-9_.-]+)?\Z", re.IGNORECASE)
_ALLOWED_HOST = re.compile(
    r"(\*|([\w.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?)\Z", re.ASCII | re.IGNORECASE
)
_SIZE = re.compile(r"(\d+)\s*(KiB|MiB|GiB|TiB)?\Z")
_SIZE_UNITS = {None: 1, "KiB": KIB, "MiB": MIB, "GiB": GIB, "TiB": 1024 * GIB}


@dataclass(frozen=True, slots=True)
class EffectiveSettings:
    """The effective settings and, by key, the origin of each."""

    settings: Settings
    origins: Mapping[str, str]


def default_directories() -> tuple[Path, Path]:
    """Returns (images, data): under /var/lib/airside for root, else XDG directories."""
    if os.geteuid() == 0:
        base = on_host("/var/lib/airside")
    else:
        home = Path(os.environ.get("XDG_DATA_HOME", ""))
        if not home.is_absolute():  # the XDG specification: then it is ignored
            home = Path(os.path.expanduser("~/.local/share"))  # noqa: PTH111 - Path's raises
        base = (home if home.is_absolute() else on_host("/var/lib")) / "airside"  # no home
    return base / "images", base / "data"


def default_config() -> Path | None:
    """Returns the host's configuration file for root, if there is one; others have none."""
    path = on_host(CONFIG)
    return path if os.geteuid() == 0 and path.is_file() else None


def load_settings(
    *, file: Path | None, environ: Mapping[str, str], flags: Mapping[str, object]
) -> EffectiveSettings:
    """Merge defaults, file, environment and flags (None: not given). Raises ConfigError."""
    images, data = default_directories()
    values: dict[str, Any] = {"data": data, "images": (WatchedDirectory(images),)}
    origins = dict.fromkeys((f.name for f in fields(Settings) if f.name != "limits"), "default")
    origins |= {f"limits.{f.name}": "default" for f in fields(Limits)}
    limits: dict[str, Any] = {}
    sources = ((f"file {file}", _read_file(file)), ("environment", _read_environment(environ)))
    given = {k: v for k, v in flags.items() if v not in (None, ())}
    for origin, found in (*sources, ("flag", given)):
        for key, raw in found.items():
            where = f"{origin}: {key}"
            if key == "limits":
                for name, limit in _table(raw, where).items():
                    limits[name] = _limit(name, limit, f"{where}.{name}")
                    origins[f"limits.{name}"] = origin
                continue
            if key not in origins:
                raise ConfigError(f"{where}: no such setting", key=key)
            values[key] = _convert(key, raw, where)
            origins[key] = origin
    settings = replace(Settings(), **values, limits=Limits(**limits))
    _check(settings)
    return EffectiveSettings(settings, origins)


def _read_file(file: Path | None) -> Mapping[str, Any]:
    if file is None:
        return {}
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ConfigError(f"cannot read the configuration {file}: {exc.strerror}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigError(f"the configuration {file} is not valid TOML: {exc}") from exc


def _read_environment(environ: Mapping[str, str]) -> Mapping[str, Any]:
    found: dict[str, Any] = {}
    for name, text in environ.items():
        if not name.startswith("AIRSIDE_") or name in _NO_SETTINGS:
            continue
        if name.startswith(_OF_KUBERNETES):
            continue
        key = name.removeprefix("AIRSIDE_").lower()
        if key.startswith("limits_"):
            found.setdefault("limits", {})[key.removeprefix("limits_")] = text
        elif key in _LISTS:
            found[key] = tuple(part for part in text.split(":" if key == "images" else ",") if part)
        else:
            found[key] = text
    return found


def _table(raw: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(raw, dict):
        raise ConfigError(f"{where}: must be a table")
    return raw


def _limit(name: str, raw: Any, where: str) -> int:
    known: dict[str, Field[Any]] = {f.name: f for f in fields(Limits)}
    if name not in known:
        raise ConfigError(f"{where}: no such limit", key=name)
    return _integer(raw, where)


def _convert(key: str, raw: Any, where: str) -> Any:
    if key == "images":
        return tuple(_watched(item, where) for item in _listed(raw, where))
    if key == "retention_rules":
        return tuple(_retention_rule(item, where) for item in _listed(raw, where))
    if key in _PARSERS:
        return tuple(_PARSERS[key](item, where) for item in _listed(raw, where))
    default = {f.name: f.default for f in fields(Settings)}[key]
    if isinstance(default, tuple):
        return tuple(_text(item, where) for item in _listed(raw, where))
    convert = _CONVERSIONS.get(type(default))
    if isinstance(raw, bool) and "true" in CHOICES.get(key, ()):
        raw = str(raw).lower()
    return convert(raw, where) if convert else _choice(key, _text(raw, where), where)


def _listed(raw: Any, where: str) -> list[Any]:
    if not isinstance(raw, list | tuple):
        raise ConfigError(f"{where}: must be a list")
    return list(raw)


def _text(raw: Any, where: str) -> str:
    if not isinstance(raw, str | Path):
        raise ConfigError(f"{where}: must be a text, found {raw!r:.80}")
    return str(raw)


def _choice(key: str, text: str, where: str) -> str:
    choices = CHOICES.get(key)
    if choices and text not in choices:
        raise ConfigError(f"{where}: must be one of {', '.join(choices)}, found {text!r}")
    return text


def _integer(raw: Any, where: str) -> int:
    match = _SIZE.match(raw) if isinstance(raw, str) else None
    if match:
        return int(match[1]) * _SIZE_UNITS[match[2]]
    if not isinstance(raw, int) or isinstance(raw, bool) or raw < 0:
        raise ConfigError(
            f"{where}: must be a whole number (sizes may end in KiB, MiB, GiB), found {raw!r}"
        )
    return raw


def _boolean(raw: Any, where: str) -> bool:
    if isinstance(raw, bool):
        return raw
    if raw not in {"true", "false"}:
        raise ConfigError(f"{where}: must be true or false, found {raw!r:.80}")
    return bool(raw == "true")


def _seconds(raw: Any, where: str) -> float:
    try:
        value = float(raw)
    except (TypeError, ValueError):
        value = -1.0
    if isinstance(raw, bool) or not 0 <= value < float("inf"):
        raise ConfigError(f"{where}: must be a number of seconds, found {raw!r}")
    return value


def _path(raw: Any, where: str) -> Path:
    return Path(_text(raw, where)).absolute()


_CONVERSIONS: Mapping[type, Callable[[Any, str], Any]] = {
    type(Path()): _path,
    bool: _boolean,
    int: _integer,
    float: _seconds,
}
_OF_RULES: Mapping[str, Callable[[Any, str], Any]] = {
    "keep_last": _integer,
    "generations": _integer,
    "older_than_seconds": _seconds,
    "untagged_seconds": _seconds,
}


_HIGHEST_PRIORITY = 1000


def _watched(raw: Any, where: str) -> WatchedDirectory:
    if isinstance(raw, WatchedDirectory):
        return raw
    if isinstance(raw, str | Path):
        return WatchedDirectory(Path(raw).absolute())
    table = dict(_table(raw, where))
    if "path" not in table:
        raise ConfigError(f"{where}: an [[images]] table needs a path")
    unknown = set(table) - {f.name for f in fields(WatchedDirectory)}
    if unknown:
        raise ConfigError(f"{where}: no such setting: {', '.join(sorted(unknown))}")
    table["path"] = Path(_text(table["path"], where)).absolute()
    for name, default in (("on_removal", "unpin"), ("links", "owner")):
        table[name] = _choice(name, _text(table.get(name, default), where), where)
    table["repository"] = _text(table.get("repository", ""), where)
    for name, is_on in (("strict", False), ("recursive", True), ("copy", False)):
        if not isinstance(table.setdefault(name, is_on), bool):
            raise ConfigError(f"{where}: {name} must be true or false")
    table["priority"] = _priority(table.get("priority", 0), where)
    table["platforms"] = _platforms(table.get("platforms", "all"), where)
    return WatchedDirectory(**table)


def _priority(raw: Any, where: str) -> int:
    if isinstance(raw, bool) or not isinstance(raw, int) or abs(raw) > _HIGHEST_PRIORITY:
        raise ConfigError(
            f"{where}: priority must be a whole number from -{_HIGHEST_PRIORITY} to "
            f"{_HIGHEST_PRIORITY}, found {raw!r:.80}"
        )
    return raw


def _retention_rule(raw: Any, where: str) -> RetentionRule:
    table = dict(_table(raw, where))
    unknown = set(table) - {f.name for f in fields(RetentionRule)}
    if unknown:
        raise ConfigError(f"{where}: no such setting: {', '.join(sorted(unknown))}")
    for name in ("repositories", "keep_tags", "sources"):
        if name in table:
            table[name] = tuple(_text(item, where) for item in _listed(table[name], where))
    for name, convert in _OF_RULES.items():
        if name in table:
            table[name] = convert(table[name], f"{where}: {name}")
    if not table.get("repositories"):
        raise ConfigError(f'{where}: a [[retention_rules]] table needs repositories, ["**"] is all')
    rule = RetentionRule(**table)
    if "archive" in rule.sources:
        raise ConfigError(
            f"{where}: a rule deletes no tag of a present archive: remove the archive"
        )
    if not rule.sources or not {"push", "import"}.issuperset(rule.sources):
        raise ConfigError(f"{where}: sources must be of push, import, found {rule.sources!r:.80}")
    if rule.keep_tags and rule.keep_last is None and rule.older_than_seconds is None:
        raise ConfigError(f"{where}: keep_tags needs keep_last or older_than_seconds beside it")
    return rule


def _platforms(raw: Any, where: str) -> tuple[str, ...]:
    """`"all"`, `"node"`, or a list of platforms such as `linux/arm64`."""
    if isinstance(raw, str) and raw in {"all", "node"}:
        return (raw,)
    names = () if isinstance(raw, str) else tuple(_text(n, where) for n in _listed(raw, where))
    if not names or not all(map(_PLATFORM.match, names)):
        raise ConfigError(
            f'{where}: platforms must be "all", "node" or a list such as ["linux/arm64"], '
            f"found {raw!r:.80}"
        )
    return names


def _check(settings: Settings) -> None:
    """Check settings against each other. A watched directory and the store may not overlap."""
    store = (settings.data / "oci").resolve()
    for watched in settings.images:
        path = watched.path.resolve()
        if path == store or path in store.parents or store in path.parents:
            raise ConfigError(
                f"the watched directory {watched.path} and the store {store} overlap; "
                "choose another --images or --data"
            )
    if len({w.path for w in settings.images}) != len(settings.images):
        raise ConfigError("a directory is given twice as --images")
    check_webhooks(settings.webhooks)
    if len({u.registry for u in settings.upstream}) != len(settings.upstream):
        raise ConfigError("a registry has two [[upstream]] tables")
    for period in _PERIODS:
        if not getattr(settings, period):
            raise ConfigError(f"{period} must be more than 0: it can't be switched off", key=period)
    if settings.platform and not _PLATFORM.match(settings.platform):
        raise ConfigError(
            f"platform must be like linux/arm64, found {settings.platform!r}", key="platform"
        )
    if settings.parallel_imports < 1:
        raise ConfigError("parallel_imports must be at least 1")
    percent = settings.low_space_percent
    if percent != "auto" and not (percent.isdecimal() and int(percent) <= _MOST_LOW_PERCENT):
        raise ConfigError(
            f"low_space_percent must be auto or 0 to {_MOST_LOW_PERCENT}, found {percent!r:.20}"
        )
    _check_names(settings)
    _check_uploads(settings)


def _check_uploads(settings: Settings) -> None:
    """Check that uploaded archives are stored where they are found."""
    path = settings.upload_directory
    watched = [str(directory.path) for directory in settings.images]
    if path in {"", "none"} or path in watched:
        return
    raise ConfigError(
        f"upload_directory must be none or one of the watched directories "
        f"({', '.join(watched) or 'there is none'}), found {path!r:.200}",
        key="upload_directory",
    )


def _check_names(settings: Settings) -> None:
    """Check the addresses of the registry, and its names for clients."""
    for key in ("listen", "metrics_listen"):
        if getattr(settings, key):
            parse_listen(getattr(settings, key), key)
    if settings.public_url and not settings.public_url.startswith(("http://", "https://")):
        raise ConfigError("public_url must begin with https:// or http://", key="public_url")
    for host in settings.allowed_hosts:
        if not _ALLOWED_HOST.match(host):
            raise ConfigError(
                f"allowed_hosts must be names such as registry.site or registry.site:5050, "
                f"found {host!r:.80}",
                key="allowed_hosts",
            )


def registry_hosts(settings: Settings) -> tuple[str, ...]:
    """Returns the registry's hosts: `registry_names`, else of `public_url`, else `listen`."""
    if settings.registry_names or not settings.listen:
        return settings.registry_names
    if settings.public_url:
        return (settings.public_url.partition("//")[2].partition("/")[0],)
    host, port = parse_listen(settings.listen)
    if not port:
        return ()
    if host in {"0.0.0.0", "::", "127.0.0.1", "::1", "localhost"}:  # noqa: S104
        return (f"127.0.0.1:{port}", f"localhost:{port}")
    return (f"[{host}]:{port}" if ":" in host else f"{host}:{port}",)


def setting_rows() -> list[tuple[str, str, str]]:
    """Returns (key, unit, help) of every setting, for `config show` and the documentation."""
    rows = [
        (f.name, f.metadata["unit"], f.metadata["help"]) for f in fields(Settings) if f.metadata
    ]
    rows += [(f"limits.{f.name}", f.metadata["unit"], f.metadata["help"]) for f in fields(Limits)]
    assert all(f.default is not MISSING for f in fields(Limits))
    return rows

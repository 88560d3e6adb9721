"""Files out of pinned npm packages: fetched once, held to their published hash, kept in the cache.

Only the registry's plain layout of tarballs is used, which public and private registries have in common, so neither
npm nor Node is needed. Nothing of a package is run.
"""

import base64
import hashlib
import os
import re
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

from cnnport.download import Report, fetch, public_url
from cnnport.errors import CnnportError, WeightsError, first_line
from cnnport.files import cache_root

PUBLIC_REGISTRY = "https://registry.npmjs.org"

_CONNECT_S = 10.0

# Older settings files name their values in quotes, and any may name variables of the environment.
_REGISTRY_LINE = re.compile(r"""^\s*registry\s*=\s*(["']?)(?P<value>[^"'\s]+)\1\s*$""")
_VARIABLE = re.compile(r"\$\{(\w+)\}")


@dataclass(frozen=True)
class NpmPackage:
    """One version of a package in an npm registry.

    Attributes:
        name: Without scope.
        version: Exactly.
        integrity: Of the tarball, as lock files write it: ``sha512-`` and the hash in base 64.
    """

    name: str
    version: str
    integrity: str

    @property
    def file(self) -> str:
        """What the tarball is called in a registry and in the cache."""
        return f"{self.name}-{self.version}.tgz"

    def is_content(self, data: bytes) -> bool:
        """Whether these are the tarball's bytes."""
        digest = base64.b64encode(hashlib.sha512(data).digest()).decode()
        return self.integrity == f"sha512-{digest}"


def npm_files(package: NpmPackage, names: Sequence[str], report: Report | None = None) -> dict[str, bytes]:
    """Give files of a package, fetched if it is not in the cache.

    Args:
        package: What to take them from.
        names: As in the package, such as ``dist/index.js``.
        report: Told about the progress of a download.

    Returns:
        Contents by name.

    Raises:
        CnnportError: If the package cannot be had, is not the one of that hash, or has no such file.
    """
    data = _tarball(package, report)
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=BytesIO(data), mode="r:gz") as archive:
            # Read in the archive's order: going back would unpack it once more.
            for member in archive:
                # The first folder is called "package" by custom only.
                name = member.name.partition("/")[2]
                if name in names and (file := archive.extractfile(member)) is not None:
                    found[name] = file.read()
    except (tarfile.TarError, OSError, EOFError) as error:
        raise CnnportError(f"cannot unpack {package.file}: {first_line(error)}") from error
    if missing := [name for name in names if name not in found]:
        raise CnnportError(f"{package.file} holds no {', '.join(missing)}")
    return found


def registry(environment: Mapping[str, str] | None = None) -> str:
    """The address of the registry that npm would ask here, without a slash at the end.

    Args:
        environment: Variables; None for those of this process. ``npm_config_registry`` in either case comes first,
            then the line ``registry=`` of the file that ``npm_config_userconfig`` names, or of ``.npmrc`` in the
            home folder.

    Raises:
        CnnportError: If what is configured is no http or https address.
    """
    variables = os.environ if environment is None else environment
    chosen = _setting(variables, "registry") or _from_settings_file(variables) or PUBLIC_REGISTRY
    try:
        parts = urlsplit(chosen)
        is_address = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        is_address = False
    if not is_address:
        raise CnnportError(f"the npm registry that is configured is no http address: {public_url(chosen)}")
    return chosen.rstrip("/")


def _tarball(package: NpmPackage, report: Report | None) -> bytes:
    path = cache_root() / "npm" / package.file
    if (kept := _content(package, path)) is not None:
        return kept
    address = f"{registry()}/{package.name}/-/{package.file}"
    try:
        fetch(address, path, connect_timeout_s=_CONNECT_S, report=report)
    except WeightsError as error:
        raise CnnportError(first_line(error)) from error
    fetched = _content(package, path)
    if fetched is None:
        path.unlink(missing_ok=True)
        raise CnnportError(
            f"{public_url(address)} is not the file that was published: its hash is not {package.integrity}"
        )
    return fetched


def _content(package: NpmPackage, path: Path) -> bytes | None:
    """The bytes of a file if it is there, and the right one."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CnnportError(f"cannot read {path}: {error.strerror or error}") from error
    return data if package.is_content(data) else None


def _setting(variables: Mapping[str, str], name: str) -> str:
    return variables.get(f"npm_config_{name}", "") or variables.get(f"NPM_CONFIG_{name.upper()}", "")


def _from_settings_file(variables: Mapping[str, str]) -> str:
    path = Path(_setting(variables, "userconfig") or Path(variables.get("HOME") or Path.home()) / ".npmrc")
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    values = [found["value"] for line in lines if (found := _REGISTRY_LINE.match(line))]
    # Of two lines npm takes the later one.
    return _VARIABLE.sub(lambda match: variables.get(match[1], ""), values[-1]) if values else ""

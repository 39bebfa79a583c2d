"""The keys of one cluster: a fresh certificate authority, and one certificate for each role.

Whoever reaches a Dask scheduler can run code as its user, so nobody talks to one without a certificate of
the cluster's own authority. The authority's key is dropped as soon as the three certificates are signed:
nobody can make a fourth.
"""

from __future__ import annotations

import datetime as dt
import errno
import hashlib
import os
import secrets
import shutil
import stat
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from canvod.launch.errors import KeysError
from canvod.launch.host.owner import OWNER_FILE, owner_mark, owner_of
from canvod.launch.runtime.keys import CA, CERTIFICATE, KEY, security, write_keys

if TYPE_CHECKING:
    from distributed.security import Security

type KeyRole = Literal["scheduler", "worker", "client"]

ROLES: Final[tuple[KeyRole, ...]] = ("scheduler", "worker", "client")

VALID_DAYS: Final = 3650
"""A detached cluster outlives any shorter time, and keys go with their cluster."""

UNFINISHED: Final = ".making-"
"""How the names of folders begin that are being made or removed; the mark of who does it follows."""

CLOCK_SKEW: Final = dt.timedelta(hours=1)
"""How far a clock that was just set may have been ahead."""


@dataclass(frozen=True, repr=False)
class KeyPair:
    """A certificate and its key.

    Attributes
    ----------
    certificate : str
        X.509 certificate, PEM.
    key : str
        Private key (PKCS #8, not encrypted), PEM.
    """

    certificate: str
    key: str


@dataclass(frozen=True, repr=False)
class ClusterKeys:
    """What scheduler, workers and clients of one cluster show each other. Never printed.

    Attributes
    ----------
    ca : str
        Certificate of the cluster's authority, PEM.
    scheduler, worker, client : KeyPair
        Certificate and key of each role.
    """

    ca: str
    scheduler: KeyPair
    worker: KeyPair
    client: KeyPair

    def files(self, role: KeyRole) -> dict[str, str]:
        """Give the files of one role.

        Parameters
        ----------
        role : {"scheduler", "worker", "client"}
            Whose files.

        Returns
        -------
        dict of str to str
            PEM texts by file name.
        """
        pair: KeyPair = getattr(self, role)
        return {CA: self.ca, CERTIFICATE: pair.certificate, KEY: pair.key}

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> ClusterKeys:
        """Read what `dataclasses.asdict` gave.

        Parameters
        ----------
        kept : dict
            As `dataclasses.asdict` gave it.

        Returns
        -------
        ClusterKeys
            The same keys.

        Raises
        ------
        KeyError, TypeError
            If a role or a part of it is missing, or another one is there.
        """
        return cls(ca=kept["ca"], **{role: KeyPair(**kept[role]) for role in ROLES})


def make_keys(cluster: str) -> ClusterKeys:
    """Make the keys of a cluster: NIST P-256 (FIPS 186-5), X.509 v3 (RFC 5280).

    A client's certificate is good for clients only; scheduler and workers both call and are called.

    Parameters
    ----------
    cluster : str
        Its name, for whoever looks at a certificate.

    Returns
    -------
    ClusterKeys
        New ones at every call.

    Examples
    --------
    >>> make_keys("example").client.key.splitlines()[0]
    '-----BEGIN PRIVATE KEY-----'
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    now = dt.datetime.now(dt.UTC)
    authority = ec.generate_private_key(ec.SECP256R1())
    authority_id = x509.SubjectKeyIdentifier.from_public_key(authority.public_key())
    issuer = name(f"canvod-launch {cluster}")

    def certificate(key: ec.EllipticCurvePublicKey, role: KeyRole | None = None) -> str:
        """Sign the certificate of a role, or of the authority itself."""
        is_authority = role is None
        usage = x509.KeyUsage(
            digital_signature=not is_authority,
            key_cert_sign=is_authority,
            crl_sign=is_authority,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        builder = (
            x509.CertificateBuilder()
            .subject_name(issuer if role is None else name(f"{role} of canvod-launch {cluster}"))
            .issuer_name(issuer)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - CLOCK_SKEW)
            .not_valid_after(now + dt.timedelta(days=VALID_DAYS))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(authority_id), critical=False
            )
            .add_extension(x509.BasicConstraints(is_authority, 0 if is_authority else None), critical=True)
            .add_extension(usage, critical=True)
        )
        if role is not None:
            purposes = [ExtendedKeyUsageOID.CLIENT_AUTH]
            purposes += [] if role == "client" else [ExtendedKeyUsageOID.SERVER_AUTH]
            builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False).add_extension(
                x509.SubjectAlternativeName([x509.DNSName(role)]), critical=False
            )
        return builder.sign(authority, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    def pair(role: KeyRole) -> KeyPair:
        key = ec.generate_private_key(ec.SECP256R1())
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return KeyPair(certificate(key.public_key(), role), private.decode())

    return ClusterKeys(certificate(authority.public_key()), *(pair(role) for role in ROLES))


def keys_home() -> Path:
    """Choose where this user's keys are kept: in memory, not on a disk, wherever there is such a place.

    Returns
    -------
    pathlib.Path
        In the user's runtime folder, else in shared memory, else among the temporary files.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    # After su or sudo it may be somebody else's, who could not use it any more with a folder of ours in it.
    if runtime and os.access(runtime, os.W_OK | os.X_OK) and os.stat(runtime).st_uid == os.getuid():  # noqa: PTH116
        return Path(runtime, "canvod-launch")
    shared = Path("/dev/shm")  # noqa: S108 - the folder below is the user's alone, which is checked
    place = shared if os.access(shared, os.W_OK | os.X_OK) else Path(tempfile.gettempdir())
    return place / f"canvod-launch-{os.getuid()}"


def key_folders() -> dict[Path, str | None]:
    """Find the folders of keys that there are, and whose they are.

    Returns
    -------
    dict of Path to str or None
        Marks of the processes that they belong to, as `owner_mark` gives them. One that is being made, or
        removed, belongs to the process that does it, whatever is in it so far.
    """
    home = keys_home()
    if not _is_private(home):
        return {}
    return {
        folder: folder.name.removeprefix(UNFINISHED).rpartition("+")[0].replace("+", "/")
        if folder.name.startswith(UNFINISHED)
        else owner_of(folder)
        for folder in sorted(home.iterdir())
    }


def _unfinished_folder(home: Path) -> Path:
    """Name a folder that nobody takes for a complete one; see `key_folders`."""
    return home / f"{UNFINISHED}{owner_mark().replace('/', '+')}+{secrets.token_hex(4)}"


def tls_environment(folder: str | Path) -> dict[str, str]:
    """Give the environment variables with which Dask finds a client's keys in a folder: paths, no keys.

    Parameters
    ----------
    folder : str or Path
        Holds ``ca.pem``, ``cert.pem`` and ``key.pem``.

    Returns
    -------
    dict of str to str
        Values by name.
    """
    return {
        "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "True",
        "DASK_DISTRIBUTED__COMM__TLS__CA_FILE": f"{folder}/{CA}",
        "DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT": f"{folder}/{CERTIFICATE}",
        "DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY": f"{folder}/{KEY}",
    }


class KeyFolder:
    """The keys that this host needs to talk to one cluster, in files of its user alone.

    Parameters
    ----------
    cluster : str
        Name of the cluster. Those of several engines may have the same one.
    roles : sequence of str
        Whose keys: a client's, and all where scheduler and workers are processes of this host.
    mark : str, optional
        The process that they belong to, as `owner_mark` marks it; this one by default.

    Attributes
    ----------
    path : pathlib.Path
        The folder, which need not be there yet.
    """

    def __init__(
        self, cluster: str, roles: tuple[KeyRole, ...] = ("client",), *, mark: str | None = None
    ) -> None:
        self._cluster = cluster
        self._roles = roles
        self._mark = owner_mark() if mark is None else mark
        self.path = keys_home() / f"{cluster}.{hashlib.sha256(self._mark.encode()).hexdigest()[:12]}"

    @property
    def exists(self) -> bool:
        """Whether the keys are there."""
        files = [self.path / role / KEY for role in self._roles]
        return (
            _is_private(self.path.parent)
            and owner_of(self.path) == self._mark
            and all(file.is_file() for file in files)
        )

    def write(self, keys: ClusterKeys) -> None:
        """Write the keys; another process may write the same ones at the same time.

        Parameters
        ----------
        keys : ClusterKeys
            What is written.

        Raises
        ------
        KeysError
            If they cannot be written, or the folder is not this user's alone. Nothing is left then.
        """
        new = _unfinished_folder(self.path.parent)
        try:
            _make_private(self.path.parent)
            new.mkdir(mode=0o700)
            write_keys(new, {OWNER_FILE: self._mark})
            for role in self._roles:
                (new / role).mkdir(mode=0o700)
                write_keys(new / role, keys.files(role))
            while not _renamed(new, self.path) and not self._holds(keys):
                # Of another cluster with this name, which the same process has had.
                self._discard()
        except OSError as error:
            raise KeysError(
                f"Could not write the keys of cluster {self._cluster} to {self.path}: "
                f"{error.strerror or error}.",
                hint="make room there, or set XDG_RUNTIME_DIR to another folder that only you can read",
            ) from error
        finally:
            shutil.rmtree(new, ignore_errors=True)

    def _holds(self, keys: ClusterKeys) -> bool:
        try:
            return all(
                (self.path / role / CERTIFICATE).read_text() == keys.files(role)[CERTIFICATE]
                for role in self._roles
            )
        except OSError:
            return False

    def __repr__(self) -> str:
        return f"<KeyFolder {self.path}>"

    def file(self, role: KeyRole, name: str) -> str:
        """Name one file of a role.

        Parameters
        ----------
        role : {"scheduler", "worker", "client"}
            Whose file.
        name : str
            ``ca.pem``, ``cert.pem`` or ``key.pem``.

        Returns
        -------
        str
            Its path.
        """
        return str(self.path / role / name)

    def security(self) -> Security:
        """Give Dask the keys of every role that is here; nothing unencrypted is accepted or sent.

        Returns
        -------
        distributed.security.Security
            What Dask's servers and clients take.
        """
        return security({role: self.path / role for role in self._roles})

    def environment(self) -> dict[str, str]:
        """Give the environment variables with which a ``distributed.Client`` finds a client's keys.

        Returns
        -------
        dict of str to str
            Values by name: paths, no keys.
        """
        return tls_environment(self.path / "client")

    def remove(self) -> None:
        """Remove the keys; calling it again does nothing."""
        if owner_of(self.path) == self._mark:
            with suppress(OSError):
                self._discard()

    def _discard(self) -> None:
        leaving = _unfinished_folder(self.path.parent)
        with suppress(FileNotFoundError):  # another process removes the same
            self.path.rename(leaving)
        shutil.rmtree(leaving, ignore_errors=True)


def _renamed(new: Path, path: Path) -> bool:
    """Give a new folder its name, unless there is another one of that name."""
    try:
        new.rename(path)
    except OSError as error:
        if error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
            return False
        raise
    return True


def _make_private(home: Path) -> None:
    """Make a folder of the caller's alone, or make sure that it is one: others may write beside it."""
    home.mkdir(mode=0o700, exist_ok=True)
    if not _is_private(home):
        found = home.lstat()
        raise KeysError(
            f"{home} is not a folder that only you can read: it belongs to uid {found.st_uid}, "
            f"mode {stat.S_IMODE(found.st_mode):o}.",
            hint="look at what it is, and remove it, or set XDG_RUNTIME_DIR to a folder of your own",
        )


def _is_private(home: Path) -> bool:
    try:
        found = home.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077

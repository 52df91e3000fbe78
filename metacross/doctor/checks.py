"""What nodes tell of themselves -> findings. Every function takes what all nodes told, by the nodes' names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib import metadata

from metacross.doctor.findings import Finding, Level
from metacross.doctor.probe import Facts

FREE_BYTES = 5 << 30  # for Ray's logs and spilled objects, and for runs
FULLEST = 0.95  # of a disk, beyond which Ray takes no more tasks
SHM_BYTES = 100 << 20  # hardly anything goes through it; docker's 64 MB are too little for NCCL
OPEN_FILES = 8192
CLOCK_WARNING, CLOCK_FAILURE = 2.0, 60.0  # seconds; object stores refuse requests that seem to be 5 to 15 minutes old

REINSTALL = (
    "Give all nodes the same image (docs/deploying/image.md), or on each of them: "
    "pip install -c constraints.txt -e '.[cpu]' (or gpu)."
)


def check_versions(facts: Mapping[str, Facts]) -> Iterator[Finding]:
    """Python and the packages: missing, of several versions, or not those that the tests ran with."""
    told = {node: _with_one_faiss(fact["versions"]) for node, fact in facts.items()}
    for node, fact in facts.items():
        if {"faiss-cpu", "faiss-gpu"} <= fact["versions"].keys():
            seen = "faiss-cpu and faiss-gpu are installed, which contain the same module"
            fix = "pip uninstall faiss-cpu faiss-gpu, then install the one that is wanted."
            yield Finding("versions", "failure", seen, fix, (node,))
    pinned = _pinned()
    same = []
    for name in ("python", "ray", "torch", "transformers", "faiss", "metacross"):
        nodes_by_version: dict[str, list[str]] = {}
        for node, versions in told.items():
            # Nodes with and without GPUs may have other builds of a version: 2.13.0+cpu, 2.13.0+cu126.
            version = versions.get(name, "missing").partition("+")[0]
            nodes_by_version.setdefault(version, []).append(node)
        if len(nodes_by_version) > 1:
            seen = "; ".join(f"{version} on {', '.join(nodes)}" for version, nodes in nodes_by_version.items())
            yield Finding("versions", "failure", f"{name} differs: {seen}", REINSTALL)
            continue
        version = next(iter(nodes_by_version), "missing")
        if version == "missing":
            yield Finding("versions", "failure", f"{name} is missing", REINSTALL)
        elif version != pinned.get(name, version):
            yield Finding("versions", "warning", f"{name} {version}; tests ran with {pinned[name]}", REINSTALL)
        else:
            same.append(f"{name} {version}")
    if same:
        yield Finding("versions", "ok", ", ".join(same))


def check_gpus(facts: Mapping[str, Facts], counted: Mapping[str, float]) -> Iterator[Finding]:
    """GPUs as Ray counts them and as torch and FAISS see them.

    Args:
        facts: of the nodes.
        counted: Ray's number of GPUs by node; nothing for a machine without Ray.
    """
    findings = [finding for node, fact in facts.items() for finding in _gpu_troubles(node, fact, counted.get(node))]
    yield from findings
    if not findings:
        total = sum(fact["gpus"]["torch"] for fact in facts.values())
        seen = f"{total}, as Ray, torch and FAISS see them" if total else "none: everything runs on CPUs"
        yield Finding("GPUs", "ok", seen)


def _gpu_troubles(node: str, fact: Facts, counted: float | None) -> Iterator[Finding]:
    """What is wrong with the GPUs of one node; `counted` is Ray's number, None without Ray."""
    gpus = fact["gpus"]
    for trouble in gpus["trouble"]:
        yield Finding("GPUs", "failure", trouble, f"See what it says is missing. {REINSTALL}", (node,))
    if counted is not None and counted > gpus["torch"]:
        seen = f"Ray counts {counted:g}, torch sees {gpus['torch']}: training there fails"
        fix = "Install a CUDA build of torch and a driver that suits it (nvidia-smi), or start Ray with --num-gpus 0."
        yield Finding("GPUs", "failure", seen, fix, (node,))
    elif counted is not None and counted < gpus["torch"]:
        seen = f"Ray counts {counted:g}, torch sees {gpus['torch']}: the others are not used"
        yield Finding("GPUs", "warning", seen, "Start Ray there with --num-gpus.", (node,))
    if gpus["devices"] and not gpus["torch"]:
        seen = f"the driver has {gpus['devices']}, torch sees none"
        fix = "Install a CUDA build of torch (leave out TORCH_INDEX), and a driver that is new enough (nvidia-smi)."
        yield Finding("GPUs", "warning", seen, fix, (node,))
    if gpus["torch"] > gpus["faiss"]:
        seen = f"torch sees {gpus['torch']}, FAISS {gpus['faiss']}: searches run on the CPU"
        yield Finding("GPUs", "warning", seen, "Install faiss-gpu in place of faiss-cpu ('.[gpu]').", (node,))


def check_machines(facts: Mapping[str, Facts], stores: Mapping[str, float]) -> Iterator[Finding]:
    """Shared memory, the disk of Ray's files, limits, and the directory for copies of bundles.

    Args:
        facts: of the nodes.
        stores: bytes of Ray's object store by node; nothing for a machine without Ray.
    """
    for node, fact in facts.items():
        least = max(SHM_BYTES, stores.get(node, 0))
        if fact["shm"] is not None and fact["shm"] < least:
            seen = f"/dev/shm has {in_units(fact['shm'])}, less than Ray's object store ({in_units(least)})"
            fix = "docker run --shm-size=..., an emptyDir of medium Memory, or ray start --object-store-memory less."
            yield Finding("shared memory", "warning", seen, fix, (node,))
        else:
            yield Finding("shared memory", "ok", "enough for Ray's object store", nodes=(node,))
        yield _disk("disk of Ray's files", *fact["temporary"], node)
        if fact["open_files"] < OPEN_FILES:
            seen = f"a process may have {fact['open_files']} files open"
            fix = f"ulimit -n 65536 before ray start, or LimitNOFILE in its unit; Ray wants {OPEN_FILES} at least."
            yield Finding("open files", "warning", seen, fix, (node,))
        else:
            yield Finding("open files", "ok", f"{OPEN_FILES} or more", nodes=(node,))
        if fact["cache"]:
            fix = "Set METACROSS_CACHE to a directory that can be written."
            yield Finding("copies of bundles", "failure", f"cannot be kept: {fact['cache']}", fix, (node,))
        else:
            yield Finding("copies of bundles", "ok", "can be kept", nodes=(node,))


def check_ports(facts: Mapping[str, Facts]) -> Iterator[Finding]:
    """Whether the ports that the service wants are free, or its own already."""
    for node, fact in facts.items():
        for port, serve in fact["taken"].items():
            if serve:
                yield Finding("ports", "ok", f"{port}: Ray Serve answers there", nodes=(node,))
            else:
                fix = "End the program (ss -tlnp), or choose another port: metacross serve --port, http_options.port."
                yield Finding("ports", "warning", f"{port} is taken by another program", fix, (node,))
        if not fact["taken"]:
            yield Finding("ports", "ok", "those of the service are free", nodes=(node,))


def check_access(facts: Mapping[str, Facts]) -> Iterator[Finding]:
    """What other machines reach, and whether it asks them for a token."""
    for node, fact in facts.items():
        listening = ", ".join(f"{port} {name}" for port, name in fact["listening"].items())
        token = fact["auth_mode"].lower() not in ("", "disabled")
        if not listening:
            yield Finding("access", "ok", "no process of Ray listens beyond loopback", nodes=(node,))
        elif token:
            seen = f"tokens are asked for; beyond loopback listen {listening}. Keep others away from these ports"
            yield Finding("access", "ok", seen, nodes=(node,))
        else:
            seen = f"no token is asked for, and whoever reaches these ports runs code: {listening}"
            fix = "RAY_AUTH_MODE=token and one RAY_AUTH_TOKEN on all nodes, and close the ports by a firewall."
            yield Finding("access", "warning", seen, fix, (node,))


def check_clocks(offsets: Mapping[str, float]) -> Iterator[Finding]:
    """Whether the nodes' clocks agree with that of the machine that asks; seconds that they are ahead of it."""
    for node, seconds in offsets.items():
        if abs(seconds) < CLOCK_WARNING:
            yield Finding("clocks", "ok", f"agree within {CLOCK_WARNING:g} s", nodes=(node,))
        else:
            level: Level = "failure" if abs(seconds) >= CLOCK_FAILURE else "warning"
            seen = (
                f"{abs(seconds):.0f} s {'ahead' if seconds > 0 else 'behind'}; object storage refuses what is far off"
            )
            yield Finding("clocks", level, seen, "Let chrony or systemd-timesyncd set the clock.", (node,))


def check_free(free: Mapping[str, int | None]) -> Iterator[Finding]:
    """Free bytes of the storage by node; None where storage does not tell."""
    for node, count in free.items():
        if count is not None and count < FREE_BYTES:
            fix = "Free some space, or choose another train.storage_path."
            yield Finding("storage", "warning", f"{in_units(count)} free", fix, (node,))


def in_units(count: float) -> str:
    """Bytes as people read them.

    >>> in_units(67108864), in_units(5 << 30)
    ('64 MiB', '5.0 GiB')
    """
    return f"{count / (1 << 30):.1f} GiB" if count >= 1 << 30 else f"{count / (1 << 20):.0f} MiB"


def _disk(subject: str, total: int, free: int, node: str) -> Finding:
    fix = "Remove old sessions below /tmp/ray, set ray start --temp-dir, or take a larger disk."
    if free < total * (1 - FULLEST):
        seen = f"{in_units(free)} of {in_units(total)} free: beyond {FULLEST:.0%} Ray starts no more tasks"
        return Finding(subject, "failure", seen, fix, (node,))
    if free < FREE_BYTES:
        return Finding(subject, "warning", f"{in_units(free)} of {in_units(total)} free", fix, (node,))
    return Finding(subject, "ok", f"{in_units(FREE_BYTES)} or more free", nodes=(node,))


def _with_one_faiss(versions: Mapping[str, str]) -> dict[str, str]:
    """Both packages as "faiss": nodes with and without GPUs may have one each, of one version."""
    faiss = [version for name, version in versions.items() if name.startswith("faiss-")]
    return {**versions, "faiss": faiss[0]} if faiss else dict(versions)


def _pinned() -> dict[str, str]:
    """The versions that metacross was tested with, by package; nothing where it is not installed."""
    try:
        required = metadata.requires("metacross") or []
    except metadata.PackageNotFoundError:
        return {}
    exact = filter(None, (re.match(r"([\w.-]+)(?:\[.*\])?==([\w.]+)", requirement) for requirement in required))
    return _with_one_faiss({name: version for name, version in (match.groups() for match in exact)})

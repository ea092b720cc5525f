"""Rewards that attack.

Columns tell them where: `outside` is a folder with a file `secret`, `server` the server's process, `path` its socket.
"""

import ctypes
import mmap
import os
import resource
import signal
import socket
import sys
import threading
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
MEBI = 1 << 20


def limits(completions):
    names = ("NPROC", "DATA", "AS", "FSIZE", "NOFILE", "CPU", "CORE")
    assert len(names) == len(completions)
    return [resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[1] for name in names]


def good(completions, gold):
    return [float(completion == right) for completion, right in zip(completions, gold, strict=True)]


def fork_bomb():
    while True:
        try:
            os.fork()
        except OSError:
            continue


def fork_bomb_that_leaves():
    while True:
        try:
            if os.fork() == 0:
                os.setsid()
                os.setpgid(0, 0)
        except OSError:
            continue


def runs_away():
    """Never the same process for longer than a moment, and each with a group of its own."""
    while True:
        try:
            os.setsid()
        except OSError:
            continue
        finally:
            if os.fork():
                os._exit(0)


def thread_bomb():
    while True:
        threading.Thread(target=threading.Event().wait).start()


def allocates():
    return [len(bytearray(10 << 30))] * 2


def allocates_bit_by_bit():
    kept = []
    while True:
        kept.append(bytearray(b"x") * MEBI)


def allocates_in_processes():
    for _ in range(3):
        if os.fork() == 0:
            break
    kept = bytearray(b"x") * (80 * MEBI)
    signal.pause()
    return [len(kept)] * 2


def allocates_shared():
    return [len(mmap.mmap(-1, 10 << 30))] * 2


def loops():
    while True:
        pass


def exits():
    os._exit(0)


def raises_system_exit():
    raise SystemExit


def crashes():
    print("dividing", file=sys.stderr)
    ctypes.string_at(0)


def recurses():
    return recurses()


def recurses_without_limit():
    class Deep:
        def __repr__(self):
            return repr(self)

    sys.setrecursionlimit(1 << 30)
    return repr(Deep())


def ignores_signals():
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    loops()


def kills_itself():
    os.kill(os.getpid(), signal.SIGKILL)


def prints():
    while True:
        print("x" * MEBI)
        print("y" * MEBI, file=sys.stderr)


def fills_the_disk():
    for number in range(1000):
        Path(str(number)).write_bytes(bytes(60 * MEBI))


def writes_a_long_file():
    with open("long", "wb") as file:
        while True:
            file.write(bytes(MEBI))


def hides_its_files():
    Path("hidden").mkdir()
    Path("hidden/large").write_bytes(bytes(MEBI))
    Path("hidden").chmod(0)
    loops()


def nests_folders():
    for _ in range(1200):
        os.mkdir("deeper")
        os.chdir("deeper")
    raise ValueError("deep")


def writes_a_checkpoint(outside):
    Path(outside[0], "checkpoint").write_text("mine")


def removes_a_checkpoint(outside):
    Path(outside[0], "secret").unlink()


def changes_its_code():
    Path(__file__).write_text("")


def reads_a_secret(outside):
    return Path(outside[0], "secret").read_text()


def lists_a_folder(outside):
    return os.listdir(outside[0])


def tells_its_environment():
    raise ValueError(" ".join(sorted(os.environ)))


def reads_the_environment_of_the_server():
    return Path(f"/proc/{os.getppid()}/environ").read_text()


def writes_the_memory_of_the_server(server):
    return open(f"/proc/{server[0]}/mem", "r+b")


def tells_who_may_look_into_it():
    raise ValueError(f"user {os.stat('/proc/self/mem').st_uid}")


def traces_its_parent():
    attach = 16
    if LIBC.ptrace(attach, os.getppid(), 0, 0):
        raise OSError(ctypes.get_errno(), "ptrace")


def lowers_limits_of_its_parent():
    resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE, (0, 0))


def kills_its_parent():
    os.kill(os.getppid(), signal.SIGKILL)


def kills_everybody(server):
    killed = []
    for pid in range(server[0] - 10, server[0] + 1000):
        try:
            if pid != os.getpid():
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
        except OSError:
            continue
    raise ValueError(f"killed {killed}")


def signals_all():
    os.kill(-1, signal.SIGKILL)


def closes_everything():
    os.closerange(0, 256)
    signal.pause()


def asks_the_server(path):
    socket.socket(socket.AF_UNIX).connect(path[0])


def connects(port):
    socket.create_connection(("127.0.0.1", port[0]), 1)


def sends_a_datagram(port):
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"gold", ("127.0.0.1", port[0]))


def leaves_its_namespace():
    new_user = 0x10000000
    if LIBC.unshare(new_user):
        raise OSError(ctypes.get_errno(), "unshare")


def leaves_a_daemon():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.pause()
        os._exit(0)
    os.wait()
    return [0.5, 0.5]


def leaves_a_thread():
    threading.Thread(target=threading.Event().wait).start()
    return [0.5, 0.5]


def sleeps_at_exit():
    import atexit

    atexit.register(signal.pause)
    return [0.5, 0.5]

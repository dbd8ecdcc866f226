"""The supervisor process, with workers that end at the same time."""

import subprocess
import sys

# All workers are dead before the supervisor reads its events. It receives the end of the first
# worker, the SIGCHLD signal and the ends of the other workers at once.
BOTH_AT_ONCE = """
import os, signal
from anthropic_proxy.observability.logs import Log
from anthropic_proxy.server.supervisor import Supervisor, SupervisorCallbacks

dead = []

def work(command_socket, number):
    command_socket.sendall(b".")
    signal.pause()

def ready():
    for worker in list(supervisor._workers):
        os.kill(worker, signal.SIGKILL)
        os.waitid(os.P_PID, worker, os.WEXITED | os.WNOWAIT)

def died(pid, _):
    dead.append(pid)
    if len(dead) == 3:
        os.kill(os.getpid(), signal.SIGTERM)

supervisor = Supervisor(3, work, SupervisorCallbacks(ready, lambda: None, died), 0, Log())
supervisor.run()
print(len(dead))
"""


def test_workers_that_end_at_the_same_time_do_not_end_the_supervisor() -> None:
    result = subprocess.run(
        [sys.executable, "-c", BOTH_AT_ONCE],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (result.stdout.splitlines()[-1:], result.returncode) == (["3"], 0), result.stderr

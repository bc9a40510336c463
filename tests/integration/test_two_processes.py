"""Two real processes that train together; one run is killed, and goes on from its last checkpoint."""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import threading

import numpy as np

SCRIPT = pathlib.Path(__file__).with_name("training_in_two_processes.py")
LIMIT = 240  # seconds for the whole test; some 30 on two quiet cores
STEPS = 6


class Processes:
    """Processes that train together, and the lines that the first of them prints."""

    def __init__(self, count, checkpoints, tasks, devices=1):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        flags = os.environ.get("XLA_FLAGS", "")
        flags += f" --xla_force_host_platform_device_count={devices}"
        env = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
        self.running = [
            subprocess.Popen(
                [sys.executable, str(SCRIPT), *map(str, (rank, count, port, checkpoints)), tasks],
                env=env,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(count)
        ]
        self.errors = [[] for _ in self.running]
        self.readers = [
            threading.Thread(target=lambda p=p, e=e: e.extend(p.stderr), daemon=True)
            for p, e in zip(self.running, self.errors, strict=True)
        ]
        # What the others print is read too, so that no pipe fills up.
        self.readers += [
            threading.Thread(target=p.stdout.read, daemon=True) for p in self.running[1:]
        ]
        for reader in self.readers:
            reader.start()

    def losses(self, until=lambda line: False):
        """The losses by layout and step, up to a line or to the end."""
        found = {}
        for text in self.running[0].stdout:
            if text.startswith("{"):
                line = json.loads(text)
                found[line["layout"], line["step"]] = line["loss"]
                if until(line):
                    return found
        for p in self.running:
            p.wait(timeout=60)
        told = "".join(line for lines in self.errors for line in lines)
        assert all(p.returncode == 0 for p in self.running), told
        return found

    def kill(self):
        for p in self.running:
            if p.poll() is None:
                p.send_signal(signal.SIGKILL)
        for p in self.running:
            p.wait(timeout=60)
        for reader in self.readers:
            reader.join(timeout=60)
        for p in self.running:
            p.stdout.close()
            p.stderr.close()


def test_two_processes_are_as_one_and_survive_being_killed(tmp_path):
    started = []
    watchdog = threading.Timer(LIMIT, lambda: [s.kill() for s in started])
    watchdog.start()
    try:
        checkpoints, copy = tmp_path / "checkpoints", tmp_path / "copy"
        for name in ("DiLoCo", "owners"):
            (checkpoints / name).mkdir(parents=True)

        def start(*args, **kwargs):
            started.append(Processes(*args, **kwargs))
            return started[-1]

        together = start(2, checkpoints, "data parallel,FSDP,offloaded owners,ZeRO-1+")
        losses = together.losses(
            until=lambda line: line["layout"] == "ZeRO-1" and line["step"] == 3
        )
        together.kill()
        assert [p.returncode for p in together.running] == [-signal.SIGKILL] * 2
        saved = sorted(int(p.name) for p in checkpoints.iterdir() if p.name.isdigit())
        assert 3 <= saved[-1] < STEPS  # killed in mid-run, with checkpoints behind it
        shutil.copytree(checkpoints, copy)

        # Four devices of one process, another mesh; the same run also gives what is expected.
        alone = start(1, copy, "data parallel,ZeRO-1+,DiLoCo", devices=4)
        resumed_elsewhere = alone.losses()
        second = start(2, checkpoints, "ZeRO-1+,DiLoCo+")
        resumed = second.losses(until=lambda line: line["layout"] == "DiLoCo" and line["step"] == 3)
        second.kill()
        third = start(2, checkpoints, "DiLoCo+,offloaded owners+")
        resumed_workers = third.losses(
            until=lambda line: line["layout"] == "offloaded owners" and line["step"] == 3
        )
        third.kill()
        resumed_owners = start(2, checkpoints, "offloaded owners+").losses()

        # State in the host's memory, each matrix with its owner: the whole run, and its two lives.
        owners = [losses.pop(("offloaded owners", k)) for k in range(STEPS)]
        seen = [resumed_workers.pop(("offloaded owners", k)) for k in range(4)]
        assert seen == owners[:4]
        assert 3 <= STEPS - len(resumed_owners) < STEPS
        for (_, k), loss in resumed_owners.items():
            assert loss == owners[k], k

        # Workers on two devices of one process, on two processes, and in two lives of these.
        workers = [resumed_elsewhere.pop(("DiLoCo", k)) for k in range(STEPS)]
        seen = [resumed.pop(("DiLoCo", k)) for k in range(4)]
        np.testing.assert_allclose(seen, workers[:4], rtol=1e-5)
        assert 3 <= STEPS - len(resumed_workers) < STEPS
        for (_, k), loss in resumed_workers.items():
            np.testing.assert_allclose(loss, workers[k], rtol=1e-5, err_msg=f"DiLoCo, {k}")

        expected = {k: resumed_elsewhere.pop(("data parallel", k)) for k in range(STEPS)}
        assert len(set(expected.values())) == STEPS  # each step has data of its own
        for layout in ("data parallel", "FSDP"):
            seen = [losses.pop((layout, k)) for k in range(STEPS)]
            np.testing.assert_allclose(seen, list(expected.values()), rtol=1e-5, err_msg=layout)
        rest = range(saved[-1], STEPS)
        assert sorted(resumed) == sorted(resumed_elsewhere) == [("ZeRO-1", k) for k in rest]
        for part in (losses, resumed, resumed_elsewhere):
            for (layout, k), loss in part.items():
                np.testing.assert_allclose(loss, expected[k], rtol=1e-5, err_msg=f"{layout}, {k}")
    finally:
        watchdog.cancel()
        for s in started:
            s.kill()

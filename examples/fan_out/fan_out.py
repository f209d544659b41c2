"""One batch on four workers of a Dask cluster, one of which dies: are the bits those of the run in one piece?"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy
import psutil
from dask.distributed import Client, LocalCluster, as_completed, get_worker
from safetensors.numpy import load_file, save_file

SHARDS = 8
RUN = ["variations", "--batch", "16", "--steps", "120", "--sampler", "dpmpp_2m", "--scheduler", "karras",
       "--cfg", "4", "--noise-seed", "3", "--variation-seed", "1", "--variation-strength", "0.5"]


def make(noisefork: str, shard: int, out: Path) -> str:
    """Makes one shard; returns the worker that did."""
    subprocess.run([noisefork, *RUN, "--shard", f"{shard}/{SHARDS}", "--out", out], check=True)
    return get_worker().address


def kill_one(client: Client) -> str:
    """Waits until a worker runs the command, then kills both, as when a machine goes away; returns the worker."""
    workers = {address: psutil.Process(pid) for address, pid in client.run(lambda: psutil.Process().pid).items()}
    while True:
        for address, worker in workers.items():
            if children := worker.children():
                worker.kill()
                for child in children:
                    child.kill()
                return address
        time.sleep(0.01)


def main(noisefork: str, folder: Path) -> None:
    whole = folder / "whole.safetensors"
    subprocess.run([noisefork, *RUN, "--out", whole], check=True)

    parts = [folder / f"part-{shard}.safetensors" for shard in range(1, SHARDS + 1)]
    with LocalCluster(n_workers=4, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        client.wait_for_workers(4)
        shards = {client.submit(make, noisefork, shard, out): shard for shard, out in enumerate(parts, 1)}
        time.sleep(0.5)
        held = client.processing()
        dead = kill_one(client)
        lost = sorted(shard for future, shard in shards.items() if future.key in held[dead])
        print(f"killed {dead}, which had shards {lost} to make")
        for done, worker in as_completed(shards, with_results=True):
            print(f"shard {shards[done]}/{SHARDS} made by {worker}")

    gathered = numpy.concatenate([load_file(part)["samples"] for part in parts])
    save_file({"samples": gathered}, folder / "gathered.safetensors")
    expected = load_file(whole)["samples"]
    same = gathered.shape == expected.shape and gathered.tobytes() == expected.tobytes()
    print(f"{expected.shape}, {expected.nbytes} bytes: {'the same' if same else 'NOT THE SAME'}")
    sys.exit(not same)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(str(Path(sys.argv[1]).resolve()), Path(folder))

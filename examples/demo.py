"""Serve a repository as long as this script runs, ask it about a photograph, keep the answers as pictures.

`make demo` exports such a repository first.
"""

import argparse
from pathlib import Path

from sapiens_client import SapiensClient
from sapiens_server import serve

TASKS = ("depth", "normal", "seg", "pose", "features", "detect", "people")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photo", type=Path)
    parser.add_argument("--repository", type=Path, default=Path("models"))
    parser.add_argument("--output", type=Path, default=Path("out"))
    options = parser.parse_args()

    options.output.mkdir(exist_ok=True)
    with serve(options.repository, grpc_port=0) as server, SapiensClient(server.grpc_url) as client:
        analysis = client.analyze(options.photo, tasks=TASKS)
        for task, result in analysis.items():
            for path in result.save(options.output / f"{options.photo.stem}_{task}.png"):
                print(path)
            model = result.model
            print(f"  {result.timing.total_s * 1e3:.0f} ms from Triton at {server.grpc_url}")
            print(f"  {model.family} {model.size}, {model.licence}")
        for task, error in analysis.failed.items():
            print(f"{task}: {error}")


if __name__ == "__main__":
    main()
